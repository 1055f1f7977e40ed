using System.Globalization;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>The rate of the host's time-stamp counter, which an emulated CPU passes on to its guest.</summary>
internal static class HostClock
{
    private const long Fallback = 2_500_000;

    /// <summary>In kHz: from the kernel where it says, else from the first "cpu MHz" of /proc/cpuinfo.</summary>
    public static long TscKhz { get; } = Read();

    private static long Read()
    {
        const string Exact = "/sys/devices/system/cpu/cpu0/tsc_freq_khz";
        if (File.Exists(Exact) && long.TryParse(File.ReadAllText(Exact).Trim(), out var khz) && khz > 0)
        {
            return khz;
        }

        foreach (var line in File.ReadLines("/proc/cpuinfo"))
        {
            if (line.StartsWith("cpu MHz", StringComparison.Ordinal)
                && double.TryParse(line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..], NumberStyles.Float, CultureInfo.InvariantCulture, out var mhz) && mhz > 100)
            {
                return (long)(mhz * 1000);
            }
        }

        return Fallback;
    }
}
