using System.Globalization;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>
/// The rate of the host's time-stamp counter, which an emulated CPU passes on to its guest. What the kernel shows may change with the CPU's frequency, and saved machines depend on it: so what was read
/// first holds for the machine from then on.
/// </summary>
internal sealed class HostClock(string directory)
{
    private const long Fallback = 2_500_000;
    private readonly Lazy<long> _rate = new(() => Keep(directory));

    /// <summary>In kHz.</summary>
    public long TscKhz => _rate.Value;

    private static long Keep(string directory)
    {
        var path = Path.Combine(directory, "tsc-khz");
        var model = HostProcessor.Description.Split('\n')[0];
        if (Load(path, model) is { } kept)
        {
            return kept;
        }

        var khz = Measure();
        var partial = $"{path}.{Environment.ProcessId}.partial";
        try
        {
            Directory.CreateDirectory(directory);
            File.WriteAllText(partial, string.Create(CultureInfo.InvariantCulture, $"{khz}\n{model}\n"));

            // Of several that come at once one is first, and the others take what it wrote. One for another processor is replaced.
            File.Move(partial, path, overwrite: File.Exists(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Then each start reads it anew; where nothing can be written, no golden snapshot is kept either.
            if (File.Exists(partial))
            {
                File.Delete(partial);
            }
        }

        return Load(path, model) ?? khz;
    }

    private static long? Load(string path, string model)
    {
        try
        {
            return File.ReadAllLines(path) is [var rate, var of, ..] && of == model && long.TryParse(rate, NumberStyles.None, CultureInfo.InvariantCulture, out var khz) && khz > 0 ? khz : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>From the kernel where it says, else from the first "cpu MHz" of /proc/cpuinfo.</summary>
    private static long Measure()
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
