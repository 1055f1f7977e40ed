using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// A guest cgroup (v2) around one execution or interpreter: so that the guest kernel ends *it* and not the agent when memory or processes run out, and so
/// that all of it can be killed however it forked. Where there is no writable cgroup v2 (tests on a host) only the process group is known.
/// </summary>
internal sealed class Cgroup
{
    private const string Root = "/sys/fs/cgroup/sandbox";
    private static readonly bool Usable = Prepare();
    private static int _next;

    private readonly string? _directory;

    private Cgroup(string? directory) => _directory = directory;

    /// <summary>File a process writes itself into, or null.</summary>
    public string? Procs => _directory is null ? null : Path.Combine(_directory, "cgroup.procs");

    public static Cgroup Create()
    {
        if (!Usable)
        {
            return new Cgroup(null);
        }

        var directory = Path.Combine(Root, "e" + Interlocked.Increment(ref _next));
        Directory.CreateDirectory(directory);
        var total = (long)Memory.Read().Total;
        // What the kernel and the agent need to stay alive while the rest is full.
        Put(directory, "memory.max", (total - Math.Max(48L << 20, total / 10)).ToString());
        Put(directory, "memory.oom.group", "1");
        Put(directory, "pids.max", Math.Clamp(total >> 19, 128, 4096).ToString());
        return new Cgroup(directory);
    }

    /// <summary>Sends a signal to a process group; SIGKILL goes to everything in the cgroup.</summary>
    public void Signal(int processGroup, int signal)
    {
        if (signal == 9 && _directory is not null && Put(_directory, "cgroup.kill", "1"))
        {
            return;
        }

        _ = Native.Kill(-processGroup, signal);
    }

    public bool OutOfMemory => Counter("memory.events", "oom_kill ") > 0;

    public bool PidsLimitHit => Counter("pids.events", "max ") > 0;

    public ulong CpuMilliseconds => (ulong)Counter("cpu.stat", "usage_usec ") / 1000;

    /// <summary>memory.peak came with Linux 6.5; before that, 0.</summary>
    public ulong PeakMemory => ulong.TryParse(Get("memory.peak"), out var peak) ? peak : 0;

    /// <summary>Removes the cgroup; what a process left running there stays until it ends, and so does the cgroup.</summary>
    public void Remove()
    {
        if (_directory is null)
        {
            return;
        }

        try
        {
            Directory.Delete(_directory);
        }
        catch (IOException)
        {
            // Background children of the user's live on in it, as they may.
        }
    }

    private static bool Prepare()
    {
        try
        {
            if (!File.Exists("/sys/fs/cgroup/cgroup.subtree_control"))
            {
                return false;
            }

            Put("/sys/fs/cgroup", "cgroup.subtree_control", "+memory +pids +cpu");
            Directory.CreateDirectory(Root);
            return Put(Root, "cgroup.subtree_control", "+memory +pids +cpu");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private static bool Put(string directory, string file, string value)
    {
        try
        {
            File.WriteAllText(Path.Combine(directory, file), value);
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private string Get(string file)
    {
        try
        {
            return _directory is null ? "" : File.ReadAllText(Path.Combine(_directory, file)).Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }

    private long Counter(string file, string prefix)
    {
        var line = Get(file).Split('\n').FirstOrDefault(l => l.StartsWith(prefix, StringComparison.Ordinal));
        return line is not null && long.TryParse(line.AsSpan(prefix.Length), out var value) ? value : 0;
    }
}
