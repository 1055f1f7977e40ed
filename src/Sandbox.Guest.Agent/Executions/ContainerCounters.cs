using System.Globalization;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// What the host's cgroup of the container has counted, where the container can see it. Of the whole container: an execution during which a count has grown need not be the one that made it grow, so who asks
/// looks at how it ended too.
/// </summary>
internal readonly record struct ContainerCounters(long OutOfMemoryKills, long PidsLimitHits)
{
    private const string Root = "/sys/fs/cgroup/";

    /// <summary>Zeros where nothing can be seen (gVisor shows none: there the host ends the whole container).</summary>
    public static ContainerCounters Read() => new(
        Counter("memory.events", "oom_kill ") ?? Counter("memory/memory.oom_control", "oom_kill ") ?? 0,
        Counter("pids.events", "max ") ?? Counter("pids/pids.events", "max ") ?? 0);

    /// <summary>Memory limit of the container and what it uses, in bytes; <see langword="null"/> where neither can be seen.</summary>
    public static (ulong Limit, ulong Used)? Memory() =>
        Number("memory.max") is { } limit && Number("memory.current") is { } used ? (limit, used)
        : Number("memory/memory.limit_in_bytes") is { } limit1 && Number("memory/memory.usage_in_bytes") is { } used1 ? (limit1, used1)
        : null;

    private static ulong? Number(string file) => ulong.TryParse(Text(file).Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value : null;

    private static long? Counter(string file, string prefix)
    {
        var line = Text(file).Split('\n').FirstOrDefault(l => l.StartsWith(prefix, StringComparison.Ordinal));
        return line is not null && long.TryParse(line.AsSpan(prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var value) ? value : null;
    }

    private static string Text(string file)
    {
        try
        {
            return File.Exists(Root + file) ? File.ReadAllText(Root + file) : "";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
