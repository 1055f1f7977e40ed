using System.Diagnostics;
using System.Globalization;

namespace Sandbox.Isolation.Hosting;

/// <summary>Limits of one microVM on the host.</summary>
/// <param name="MemoryBytes">Most memory, page cache included.</param>
/// <param name="CpuCores">CPU time in cores.</param>
/// <param name="Pids">Most processes and threads.</param>
public sealed record CgroupLimits(long MemoryBytes, double CpuCores, int Pids);

/// <summary>
/// The cgroups of a host's microVMs, on cgroup v1 (one tree a controller) and v2 (one tree). Which it is, is detected; where nothing is writable,
/// <see cref="Problem"/> says so and groups have no effect.
/// </summary>
public sealed class CgroupTree
{
    private static readonly string[] Controllers = ["memory", "cpu", "pids"];
    private const int PeriodMicroseconds = 100_000;

    private readonly string _mount;
    private readonly string _hostId;

    /// <param name="hostId">Separates hosts on one machine.</param>
    /// <param name="mount">Where cgroups are mounted; another place in tests.</param>
    public CgroupTree(string hostId, string mount = "/sys/fs/cgroup")
    {
        (_hostId, _mount) = (hostId, mount);
        Version = File.Exists(Path.Combine(mount, "cgroup.controllers")) ? 2 : Controllers.All(c => Directory.Exists(Path.Combine(mount, c))) ? 1 : 0;
        Problem = Prepare();
    }

    /// <summary>1, 2, or 0 for none.</summary>
    public int Version { get; }

    /// <summary>Why limits do not hold on this host, or <see langword="null"/>.</summary>
    public string? Problem { get; }

    /// <summary>Makes the group of a microVM and sets its limits; returns the files a process writes its pid to.</summary>
    public IReadOnlyList<string> Create(string vmId, CgroupLimits limits)
    {
        ArgumentNullException.ThrowIfNull(limits);
        if (Problem is not null)
        {
            return [];
        }

        var quota = ((long)(limits.CpuCores * PeriodMicroseconds)).ToString(CultureInfo.InvariantCulture);
        foreach (var directory in DirectoriesOf(vmId))
        {
            Directory.CreateDirectory(directory);
        }

        if (Version == 2)
        {
            var group = DirectoriesOf(vmId).Single();
            Write(group, "memory.max", limits.MemoryBytes.ToString(CultureInfo.InvariantCulture));
            TryWrite(group, "memory.swap.max", "0");
            Write(group, "cpu.max", $"{quota} {PeriodMicroseconds}");
            Write(group, "pids.max", limits.Pids.ToString(CultureInfo.InvariantCulture));
        }
        else
        {
            Write(InController("memory", vmId), "memory.limit_in_bytes", limits.MemoryBytes.ToString(CultureInfo.InvariantCulture));
            Write(InController("cpu", vmId), "cpu.cfs_period_us", PeriodMicroseconds.ToString(CultureInfo.InvariantCulture));
            Write(InController("cpu", vmId), "cpu.cfs_quota_us", quota);
            Write(InController("pids", vmId), "pids.max", limits.Pids.ToString(CultureInfo.InvariantCulture));
        }

        return [.. DirectoriesOf(vmId).Select(d => Path.Combine(d, "cgroup.procs"))];
    }

    /// <summary>Whether the kernel has killed something in this group because it was out of memory.</summary>
    public bool WasOutOfMemory(string vmId)
    {
        if (Version == 0)
        {
            return false;
        }

        var file = Version == 2 ? Path.Combine(DirectoriesOf(vmId).Single(), "memory.events") : Path.Combine(InController("memory", vmId), "memory.oom_control");
        try
        {
            return File.ReadLines(file).Any(l => l.StartsWith("oom_kill ", StringComparison.Ordinal) && l != "oom_kill 0");
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Processes in the group.</summary>
    public IReadOnlyList<int> ProcessesOf(string vmId)
    {
        var pids = new HashSet<int>();
        foreach (var file in DirectoriesOf(vmId).Select(d => Path.Combine(d, "cgroup.procs")).Where(File.Exists))
        {
            foreach (var line in File.ReadLines(file))
            {
                pids.Add(int.Parse(line, CultureInfo.InvariantCulture));
            }
        }

        return [.. pids];
    }

    /// <summary>Removes the group. A group that still holds a dying process is tried again for a while.</summary>
    public async Task RemoveAsync(string vmId)
    {
        for (var tries = 0; ; tries++)
        {
            try
            {
                foreach (var directory in DirectoriesOf(vmId).Where(Directory.Exists))
                {
                    Directory.Delete(directory);
                }

                return;
            }
            catch (IOException) when (tries < 100)
            {
                await Task.Delay(20);
            }
        }
    }

    /// <summary>Groups that exist under this host.</summary>
    public IReadOnlyList<string> List() =>
        [.. Roots().Select(r => Path.Combine(r, "sandbox", _hostId)).Where(Directory.Exists).SelectMany(Directory.GetDirectories).Select(d => Path.GetFileName(d)!).Distinct()];

    /// <summary>Kills what is in the group of a microVM, and its process where that is known, waits until it is gone, and removes the group.</summary>
    /// <returns>Whether there was a process to kill.</returns>
    public async Task<bool> KillAsync(string vmId, ProcessIdentity? known)
    {
        var killed = false;
        foreach (var pid in ProcessesOf(vmId).Concat(known is { IsRunning: true } ? [known.Pid] : []).Distinct())
        {
            try
            {
                using var process = Process.GetProcessById(pid);
                process.Kill();
                await process.WaitForExitAsync();
                killed = true;
            }
            catch (Exception e) when (e is ArgumentException or InvalidOperationException)
            {
                // It ended first.
            }
        }

        await RemoveAsync(vmId);
        return killed;
    }

    private IEnumerable<string> Roots() => Version == 2 ? [_mount] : Version == 1 ? Controllers.Select(c => Path.Combine(_mount, c)) : [];

    private IEnumerable<string> DirectoriesOf(string vmId) => Roots().Select(r => Path.Combine(r, "sandbox", _hostId, vmId));

    private string InController(string controller, string vmId) => Path.Combine(_mount, controller, "sandbox", _hostId, vmId);

    private string? Prepare()
    {
        if (Version == 0)
        {
            return $"no cgroup v2 and no v1 memory, cpu and pids controllers under {_mount}: microVMs run without limits on the host";
        }

        try
        {
            foreach (var root in Roots())
            {
                Directory.CreateDirectory(Path.Combine(root, "sandbox", _hostId));
            }

            if (Version == 2)
            {
                foreach (var directory in (string[])[_mount, Path.Combine(_mount, "sandbox"), Path.Combine(_mount, "sandbox", _hostId)])
                {
                    Write(directory, "cgroup.subtree_control", "+memory +cpu +pids");
                }
            }

            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"cgroups under {_mount} cannot be written ({e.Message}): microVMs run without limits on the host";
        }
    }

    private static void Write(string directory, string file, string value) => File.WriteAllText(Path.Combine(directory, file), value);

    private static void TryWrite(string directory, string file, string value)
    {
        if (File.Exists(Path.Combine(directory, file)))
        {
            Write(directory, file, value);
        }
    }
}
