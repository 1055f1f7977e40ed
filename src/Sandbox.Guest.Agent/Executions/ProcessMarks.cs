using System.Globalization;
using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// Marks by which the processes of one execution are known in a container, whatever session they have made and whoever their parent is: a supplementary group that nothing else has. To lay it down
/// takes a capability that nothing but the agent has there.
/// </summary>
internal static class ProcessMarks
{
    /// <summary>Group ids that no Debian package gives to anybody, within the 65536 that a container has.</summary>
    private const uint First = 50_000;

    /// <summary>More than can run at once; a mark comes again long after its processes have gone.</summary>
    private const uint Count = 12_000;

    /// <summary>A process that always forks before it is found would keep the search going for ever.</summary>
    private const int MaxRounds = 200;

    private static int Last;

    public static uint Next() => First + ((uint)Interlocked.Increment(ref Last) % Count);

    /// <summary>The processes with a mark that have not ended.</summary>
    public static List<int> Members(uint mark)
    {
        var text = mark.ToString(CultureInfo.InvariantCulture);
        List<int> members = [];
        foreach (var directory in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(directory.AsSpan()), NumberStyles.None, CultureInfo.InvariantCulture, out var pid) && Bears(directory, text))
            {
                members.Add(pid);
            }
        }

        return members;
    }

    /// <summary>Kills them. All are stopped first, so that none forks while others are being killed.</summary>
    public static void KillAll(uint mark)
    {
        var stopped = new HashSet<int>();
        for (var round = 0; round < MaxRounds; round++)
        {
            var found = Members(mark);
            if (found.Count == 0)
            {
                return;
            }

            var fresh = found.Where(stopped.Add).ToList();
            foreach (var pid in fresh)
            {
                _ = Native.Kill(pid, 19);
            }

            if (fresh.Count > 0 && round < MaxRounds / 2)
            {
                continue;
            }

            foreach (var pid in found)
            {
                _ = Native.Kill(pid, 9);
            }

            stopped.Clear();
            Thread.Sleep(1);
        }
    }

    private static bool Bears(string directory, string mark)
    {
        try
        {
            var dead = false;
            foreach (var line in File.ReadLines(directory + "/status"))
            {
                dead |= line.StartsWith("State:\tZ", StringComparison.Ordinal) || line.StartsWith("State:\tX", StringComparison.Ordinal);
                if (line.StartsWith("Groups:", StringComparison.Ordinal))
                {
                    return !dead && line["Groups:".Length..].Split((char[])[' ', '\t'], StringSplitOptions.RemoveEmptyEntries).Contains(mark);
                }
            }

            return false;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Gone meanwhile.
            return false;
        }
    }
}
