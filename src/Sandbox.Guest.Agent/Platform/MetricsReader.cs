using System.Globalization;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Platform;

/// <summary>What the guest uses, from /proc.</summary>
internal static class MetricsReader
{
    public static Metrics Read()
    {
        var memory = Memory.Read();

        // What /proc says there is the host's.
        var (all, available) = Container.Entered && ContainerCounters.Memory() is { } limits
            ? (limits.Limit, limits.Limit - Math.Min(limits.Limit, limits.Used))
            : (memory.All, memory.Available);
        var (total, free) = Disk.Space("/");
        var cpu = File.ReadLines("/proc/stat").First().Split(' ', StringSplitOptions.RemoveEmptyEntries).Skip(1).Select(ulong.Parse).ToArray();
        var busyTicks = cpu.Take(8).Aggregate(0UL, (sum, t) => sum + t) - cpu[3] - cpu[4];
        return new Metrics
        {
            MemoryTotal = all,
            MemoryAvailable = available,
            DiskTotal = total,
            DiskFree = free,
            Vcpus = (uint)Environment.ProcessorCount,
            CpuBusyMs = busyTicks * 10,
            Processes = (uint)Directory.EnumerateDirectories("/proc").Count(d => char.IsAsciiDigit(Path.GetFileName(d)[0])),
            Load1 = double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture),
            UnixNanos = (DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).Ticks * 100,
            UptimeMs = (ulong)(double.Parse(File.ReadAllText("/proc/uptime").Split(' ')[0], CultureInfo.InvariantCulture) * 1000),
        };
    }
}
