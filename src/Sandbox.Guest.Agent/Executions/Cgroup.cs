using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// A guest cgroup (v2) around one execution or interpreter: so that the guest kernel ends *it* and not the agent when memory or processes run out, and so
/// that all of it can be killed however it forked. In a container there is none to write to: its processes bear a mark instead, and the limits that end them are those of the whole container (see
/// <see cref="ContainerCounters"/>). Elsewhere (tests on a host) only the process's session is known.
/// </summary>
internal sealed class Cgroup
{
    private const string Root = "/sys/fs/cgroup/sandbox";
    private static readonly bool Usable = PrepareRoot();

    /// <summary>Cgroups in which a background process outlived its execution; removed once it has ended.</summary>
    private static readonly ConcurrentQueue<string> Lingering = new();

    private static int _next;

    /// <summary>One that nothing has run in yet: making it takes the kernel longer than anything else at a start.</summary>
    private static Cgroup? _spare;

    private readonly string? _directory;
    private readonly ContainerCounters _before;

    private Cgroup(string? directory)
    {
        _directory = directory;
        if (directory is null && Container.Entered)
        {
            Mark = ProcessMarks.Next();
            _before = ContainerCounters.Read();
        }
    }

    /// <summary>A group id that all of its processes have and cannot lay down, where that takes the place of a cgroup.</summary>
    public uint? Mark { get; }

    /// <summary>File a process writes itself into, or null.</summary>
    public string? Procs => _directory is null ? null : _directory + "/cgroup.procs";

    public bool PidsLimitHit => Mark is null ? Counter("pids.events", "max ") > 0 : ContainerCounters.Read().PidsLimitHits > _before.PidsLimitHits;

    public ulong CpuMilliseconds => (ulong)Counter("cpu.stat", "usage_usec ") / 1000;

    /// <summary>In bytes. memory.peak came with Linux 5.19; without it, 0.</summary>
    public ulong PeakMemory => ulong.TryParse(Get("memory.peak"), out var peak) ? peak : 0;

    /// <summary>Bytes all executions may use together: what the kernel and the agent need to stay alive is kept back.</summary>
    private static long MemoryLimit => (long)Memory.Total - Math.Max(64L << 20, (long)Memory.Total / 10);

    private static long ProcessLimit => Math.Clamp((long)Memory.Total >> 19, 128, 4096);

    /// <summary>Whether a process of it that has ended did so for want of memory.</summary>
    public bool EndedOutOfMemory(ProcessEnd end) =>
        Mark is null ? Counter("memory.events", "oom_kill ") > 0
        : (end.Signal == 9 || end.ExitCode == 137) && ContainerCounters.Read().OutOfMemoryKills > _before.OutOfMemoryKills;

    public static Cgroup Create()
    {
        if (!Usable)
        {
            return new Cgroup(null);
        }

        // Root in the guest may have removed it meanwhile.
        return Interlocked.Exchange(ref _spare, null) is { } spare && Directory.Exists(spare._directory) ? spare : Make();
    }

    /// <summary>Makes the one that the next start will take, and removes those whose last process has ended. For moments when nobody waits.</summary>
    public static void Prepare()
    {
        if (!Usable)
        {
            return;
        }

        Sweep();
        if (Volatile.Read(ref _spare) is not null)
        {
            return;
        }

        try
        {
            var made = Make();
            if (Interlocked.CompareExchange(ref _spare, made, null) is not null)
            {
                made.Remove();
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The next start tries again, and says why it cannot.
        }
    }

    /// <summary>A descriptor of the cgroup, for the caller to close, or -1.</summary>
    public int Open() => _directory is null ? -1 : Native.Open(_directory, Native.CloseOnExec, 0);

    /// <summary>Sends a signal to a process group; SIGKILL goes to everything in the cgroup.</summary>
    public void Signal(int processGroup, int signal)
    {
        if (signal == 9)
        {
            KillAll(processGroup);
        }
        else
        {
            _ = Native.Kill(-processGroup, signal);
        }
    }

    /// <summary>The processes in the cgroup; without one those of the session.</summary>
    public IReadOnlyList<int> Members(int session) =>
        Get("cgroup.procs") is { Length: > 0 } list
            ? [.. list.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => int.Parse(l, CultureInfo.InvariantCulture))]
            : Mark is { } mark ? ProcessMarks.Members(mark) : Sessions.Members(session);

    /// <summary>Kills everything, also what has left the process group; without a cgroup everything in the session.</summary>
    public void KillAll(int session)
    {
        if (_directory is not null && Put(_directory, "cgroup.kill", "1"))
        {
            return;
        }

        if (Mark is { } mark)
        {
            ProcessMarks.KillAll(mark);
            return;
        }

        // A process that forks while we look is found in the next round.
        for (var round = 0; round < 10; round++)
        {
            var found = Sessions.Members(session);
            foreach (var pid in found)
            {
                _ = Native.Kill(pid, 9);
            }

            if (found.Count == 0)
            {
                break;
            }

            Thread.Sleep(round);
        }
    }

    /// <summary>Removes the cgroup; what a process left running there stays until it ends, and so does the cgroup.</summary>
    public void Remove()
    {
        if (_directory is not null && !TryRemove(_directory))
        {
            Lingering.Enqueue(_directory);
        }
    }

    private static Cgroup Make()
    {
        var directory = Root + "/e" + Interlocked.Increment(ref _next).ToString(CultureInfo.InvariantCulture);
        Directory.CreateDirectory(directory);
        Put(directory, "memory.max", MemoryLimit.ToString(CultureInfo.InvariantCulture));
        Put(directory, "memory.oom.group", "1");
        Put(directory, "pids.max", ProcessLimit.ToString(CultureInfo.InvariantCulture));
        return new Cgroup(directory);
    }

    private static void Sweep()
    {
        for (var i = Math.Min(Lingering.Count, 16); i > 0 && Lingering.TryDequeue(out var directory); i--)
        {
            if (!TryRemove(directory))
            {
                Lingering.Enqueue(directory);
            }
        }
    }

    private static bool TryRemove(string directory)
    {
        try
        {
            Directory.Delete(directory);
            return true;
        }
        catch (DirectoryNotFoundException)
        {
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    private static bool PrepareRoot()
    {
        try
        {
            if (!File.Exists("/sys/fs/cgroup/cgroup.subtree_control"))
            {
                return false;
            }

            Put("/sys/fs/cgroup", "cgroup.subtree_control", "+memory +pids +cpu");
            Directory.CreateDirectory(Root);
            if (!Put(Root, "cgroup.subtree_control", "+memory +pids +cpu"))
            {
                return false;
            }

            // All together, too: two executions must not drive the whole machine out of memory or process ids.
            Put(Root, "memory.max", MemoryLimit.ToString(CultureInfo.InvariantCulture));
            Put(Root, "pids.max", (ProcessLimit * 2).ToString(CultureInfo.InvariantCulture));
            return true;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    // Plain calls: .NET's files ask for their kind, length and locks first, which is most of the work here.
    private static bool Put(string directory, string file, string value)
    {
        var fd = Native.Open(directory + "/" + file, Native.WriteOnly | Native.CloseOnExec, 0);
        if (fd < 0)
        {
            return false;
        }

        var written = Descriptors.Write(fd, Encoding.ASCII.GetBytes(value));
        Native.Close(fd);
        return written;
    }

    private string Get(string file)
    {
        var fd = _directory is null ? -1 : Native.Open(_directory + "/" + file, Native.CloseOnExec, 0);
        if (fd < 0)
        {
            return "";
        }

        // The list of processes may be long; the rest fits the first piece.
        var text = new StringBuilder();
        Span<byte> buffer = stackalloc byte[2048];
        while (Descriptors.Read(fd, buffer) is > 0 and var n)
        {
            text.Append(Encoding.ASCII.GetString(buffer[..n]));
        }

        Native.Close(fd);
        return text.ToString().Trim();
    }

    private long Counter(string file, string prefix)
    {
        var line = Get(file).Split('\n').FirstOrDefault(l => l.StartsWith(prefix, StringComparison.Ordinal));
        return line is not null && long.TryParse(line.AsSpan(prefix.Length), out var value) ? value : 0;
    }
}
