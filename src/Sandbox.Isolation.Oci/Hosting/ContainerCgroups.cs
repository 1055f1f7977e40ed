using System.Globalization;

namespace Sandbox.Isolation.Oci.Hosting;

/// <summary>
/// The cgroups of a host's containers, which the runtimes make with the limits that they are given: on cgroup v1 one in each controller, on v2 one. Freezing, counting and removing are done here, without a runtime.
/// </summary>
/// <param name="hostId">Separates hosts, and backends of one host, on one machine.</param>
/// <param name="mount">Where cgroups are mounted; another place in tests.</param>
internal sealed class ContainerCgroups(string hostId, string mount = "/sys/fs/cgroup")
{
    private static readonly TimeSpan FreezeDeadline = TimeSpan.FromSeconds(5);
    private readonly string[] _roots = RootsOf(mount);

    /// <summary>1, 2, or 0 for none.</summary>
    public int Version => File.Exists(Path.Combine(mount, "cgroup.controllers")) ? 2 : Directory.Exists(Path.Combine(mount, "memory")) ? 1 : 0;

    /// <summary>Where a v1 host has v2 mounted too, without controllers of use (systemd's "hybrid"); <see langword="null"/> where not. crun refuses hosts that look so.</summary>
    public string? Unified => Version == 1 && Directory.Exists(Path.Combine(mount, "unified")) ? Path.Combine(mount, "unified") : null;

    /// <summary>Why containers cannot be frozen and limited here, or <see langword="null"/>.</summary>
    public string? Problem => Version switch
    {
        0 => $"there are no cgroups under {mount}",
        1 when ((string[])["cpu", "pids", "freezer"]).FirstOrDefault(c => !Directory.Exists(Path.Combine(mount, c))) is { } missing => $"the cgroup controller '{missing}' is not mounted under {mount}",
        _ => null,
    };

    /// <summary>Whether a share of the disk's time can be given.</summary>
    public bool HasIoWeight => Version == 2
        ? File.ReadAllText(Path.Combine(mount, "cgroup.controllers")).Split(' ', '\n').Contains("io") && Directory.EnumerateDirectories(mount).Any(d => File.Exists(Path.Combine(d, "io.weight")))
        : File.Exists(Path.Combine(mount, "blkio", "blkio.weight")) || File.Exists(Path.Combine(mount, "blkio", "blkio.bfq.weight"));

    /// <summary>Whether memory and swap can be limited together.</summary>
    public bool HasSwapLimit => Version == 2 || File.Exists(Path.Combine(mount, "memory", "memory.memsw.limit_in_bytes"));

    /// <summary>Path of a container's cgroup, as a runtime is told it.</summary>
    public string PathOf(string vmId) => $"/sandbox/{hostId}/{vmId}";

    /// <summary>Stops every process of a container where it is.</summary>
    /// <exception cref="IOException">There is no such cgroup, or its processes do not stop.</exception>
    public async Task FreezeAsync(string vmId, CancellationToken cancellationToken)
    {
        Write(vmId, freeze: true);
        var deadline = DateTime.UtcNow + FreezeDeadline;
        for (var tries = 0; !IsFrozen(vmId); tries++)
        {
            if (DateTime.UtcNow > deadline)
            {
                Write(vmId, freeze: false);
                throw new IOException($"the processes of container {vmId} did not stop within {FreezeDeadline.TotalSeconds:0} s");
            }

            if (tries > 20)
            {
                await Task.Delay(1, cancellationToken);
            }
            else
            {
                Thread.Yield();
            }
        }
    }

    /// <summary>Lets them run on.</summary>
    /// <exception cref="IOException">There is no such cgroup.</exception>
    public void Thaw(string vmId) => Write(vmId, freeze: false);

    /// <summary>Host process ids of everything in the container, its runtime's own processes included.</summary>
    public IReadOnlyList<int> ProcessesOf(string vmId)
    {
        var pids = new HashSet<int>();
        foreach (var file in DirectoriesOf(vmId).SelectMany(WithChildren).Select(d => Path.Combine(d, "cgroup.procs")))
        {
            try
            {
                foreach (var line in File.ReadLines(file))
                {
                    pids.Add(int.Parse(line, CultureInfo.InvariantCulture));
                }
            }
            catch (IOException)
            {
                // It has gone.
            }
        }

        pids.Remove(0);
        return [.. pids];
    }

    /// <summary>Kills everything in the container and waits until it has gone. Returns whether there was anything.</summary>
    public async Task<bool> KillAsync(string vmId)
    {
        var killed = false;
        for (var round = 0; round < 500 && ProcessesOf(vmId) is { Count: > 0 } pids; round++)
        {
            killed = true;
            foreach (var pid in pids)
            {
                Kernel.Kill(pid, 9);
            }

            try
            {
                // On v1 the frozen do not even die.
                Thaw(vmId);
            }
            catch (IOException)
            {
                // They have gone, and their cgroup with them.
            }

            await Task.Delay(Math.Min(round + 1, 20));
        }

        return killed;
    }

    /// <summary>How often the kernel has killed something in the container for want of memory; 0 where it has gone.</summary>
    public long OutOfMemoryKills(string vmId)
    {
        var file = Version == 2 ? Path.Combine(InRoot(mount, vmId), "memory.events") : Path.Combine(InRoot(Path.Combine(mount, "memory"), vmId), "memory.oom_control");
        try
        {
            var line = File.ReadLines(file).FirstOrDefault(l => l.StartsWith("oom_kill ", StringComparison.Ordinal));
            return line is null ? 0 : long.Parse(line.AsSpan("oom_kill ".Length), CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return 0;
        }
    }

    /// <summary>Removes a container's cgroups. One that still holds a dying process is tried again for a while.</summary>
    public async Task RemoveAsync(string vmId)
    {
        for (var tries = 0; ; tries++)
        {
            try
            {
                foreach (var directory in DirectoriesOf(vmId).SelectMany(d => WithChildren(d).Reverse()))
                {
                    Directory.Delete(directory);
                }

                return;
            }
            catch (DirectoryNotFoundException)
            {
                // A runtime removed it at the same time.
            }
            catch (IOException) when (tries < 200)
            {
                await Task.Delay(5);
            }
        }
    }

    /// <summary>Containers of this host that have a cgroup.</summary>
    public IReadOnlyList<string> List() =>
        [.. _roots.Select(r => Path.Combine(r, "sandbox", hostId)).Where(Directory.Exists).SelectMany(Directory.GetDirectories).Select(d => Path.GetFileName(d)!).Distinct()];

    private static string[] RootsOf(string mount) =>
        File.Exists(Path.Combine(mount, "cgroup.controllers")) ? [mount] : Directory.Exists(mount) ? [.. Directory.GetDirectories(mount).Where(d => File.Exists(Path.Combine(d, "cgroup.procs")))] : [];

    private string InRoot(string root, string vmId) => Path.Combine(root, "sandbox", hostId, vmId);

    private IEnumerable<string> DirectoriesOf(string vmId) => _roots.Select(r => InRoot(r, vmId)).Where(Directory.Exists);

    private static IEnumerable<string> WithChildren(string directory)
    {
        yield return directory;
        if (Directory.Exists(directory))
        {
            foreach (var child in Directory.GetDirectories(directory).SelectMany(WithChildren))
            {
                yield return child;
            }
        }
    }

    private void Write(string vmId, bool freeze)
    {
        var (file, value) = Version == 2
            ? (Path.Combine(InRoot(mount, vmId), "cgroup.freeze"), freeze ? "1" : "0")
            : (Path.Combine(InRoot(Path.Combine(mount, "freezer"), vmId), "freezer.state"), freeze ? "FROZEN" : "THAWED");
        File.WriteAllText(file, value);
    }

    private bool IsFrozen(string vmId) => Version == 2
        ? File.ReadLines(Path.Combine(InRoot(mount, vmId), "cgroup.events")).Contains("frozen 1")
        : File.ReadAllText(Path.Combine(InRoot(Path.Combine(mount, "freezer"), vmId), "freezer.state")).StartsWith("FROZEN", StringComparison.Ordinal);
}
