using System.Globalization;

namespace Sandbox.Conformance.Backends;

/// <summary>Memory of a machine that does nothing, in MiB: proportional set size of its processes, so that what clones share is counted once in all.</summary>
internal static class IdleMemory
{
    /// <summary>Of a machine that is processes of its own, or else by how much the process that holds all of them has grown.</summary>
    public static double Of(Subject subject, string vmId, double workersBefore)
    {
        var own = HostTraces.ProcessesOf(subject.TraceHost, vmId);
        return own.Count > 0 ? own.Sum(Pss) : OfWorkers(subject) - workersBefore;
    }

    /// <summary>Of all processes of the host's machines together.</summary>
    public static double OfWorkers(Subject subject) =>
        HostTraces.Cgroups(subject.TraceHost, "").SelectMany(c => Directory.EnumerateFiles(c, "cgroup.procs", SearchOption.AllDirectories)).SelectMany(File.ReadAllLines).Distinct()
            .Sum(l => Pss(int.Parse(l, CultureInfo.InvariantCulture)));

    private static double Pss(int pid)
    {
        try
        {
            var line = File.ReadLines(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/smaps_rollup")).First(l => l.StartsWith("Pss:", StringComparison.Ordinal));
            return double.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) / 1024;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has just ended.
            return 0;
        }
    }
}
