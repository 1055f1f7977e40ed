using System.Globalization;

namespace Sandbox.Isolation.Hosting;

/// <summary>A process that cannot be confused with a later one of the same number: its pid and when it started.</summary>
/// <param name="Pid">Process id.</param>
/// <param name="StartTicks">Field 22 of /proc/PID/stat: clock ticks from the host's boot to its start.</param>
public sealed record ProcessIdentity(int Pid, ulong StartTicks)
{
    /// <summary>The identity of a running process, or <see langword="null"/> if there is none (a zombie counts as none).</summary>
    public static ProcessIdentity? Of(int pid)
    {
        try
        {
            // The name in parentheses may hold anything, spaces and parentheses too: count from its end.
            var stat = File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/stat"));
            var fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return fields[0] is "Z" or "X" ? null : new ProcessIdentity(pid, ulong.Parse(fields[19], CultureInfo.InvariantCulture));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>Whether this very process still runs.</summary>
    public bool IsRunning => Of(Pid) == this;
}
