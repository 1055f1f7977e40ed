using System.Globalization;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>Processes by their session, from /proc.</summary>
internal static class Sessions
{
    /// <summary>The processes of a session that have not ended.</summary>
    public static List<int> Members(int session)
    {
        var members = new List<int>();
        foreach (var directory in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(directory.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) && IsMember(directory, session))
            {
                members.Add(pid);
            }
        }

        return members;
    }

    /// <summary>Whether SIGINT ends a process at once: it neither catches, ignores nor blocks it.</summary>
    public static bool EndsOnInterrupt(int pid)
    {
        const ulong Interrupt = 1UL << (2 - 1);
        try
        {
            return File.ReadLines($"/proc/{pid}/status")
                .Where(l => l.StartsWith("SigBlk:", StringComparison.Ordinal) || l.StartsWith("SigIgn:", StringComparison.Ordinal) || l.StartsWith("SigCgt:", StringComparison.Ordinal))
                .All(l => (ulong.Parse(l.AsSpan(7).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture) & Interrupt) == 0);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>What a process and those of its children that it has waited for have used, to a hundredth of a second; 0 if it has gone.</summary>
    public static ulong CpuMilliseconds(int pid)
    {
        const ulong PerTick = 10;
        try
        {
            var stat = File.ReadAllText($"/proc/{pid}/stat");
            return stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[11..15].Aggregate(0UL, (sum, ticks) => sum + ulong.Parse(ticks, NumberStyles.None, CultureInfo.InvariantCulture)) * PerTick;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException or ArgumentException)
        {
            return 0;
        }
    }

    private static bool IsMember(string directory, int session)
    {
        try
        {
            // pid (name) state parent group session ... where the name may hold anything, parentheses included.
            var stat = File.ReadAllText(directory + "/stat");
            var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return fields[0] is not ("Z" or "X") && int.TryParse(fields[3], out var id) && id == session;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or IndexOutOfRangeException)
        {
            // Gone meanwhile.
            return false;
        }
    }
}
