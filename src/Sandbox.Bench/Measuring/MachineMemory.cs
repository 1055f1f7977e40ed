using System.Diagnostics;
using System.Globalization;

namespace Sandbox.Bench.Measuring;

/// <summary>Memory of this machine and of its processes, as the kernel counts it. All in bytes.</summary>
internal static class MachineMemory
{
    /// <summary>What new programs could have without swapping.</summary>
    public static long Available() => Field("/proc/meminfo", "MemAvailable");

    /// <summary>The resident set of a process, a page that n processes share counted 1/n.</summary>
    public static long Proportional(int pid) => Field(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/smaps_rollup"), "Pss");

    /// <summary>The mappings of a process that have exactly a size.</summary>
    public static MemoryMapping MappingOf(int pid, long bytes)
    {
        MemoryMapping? found = null;
        var header = "";
        var values = new Dictionary<string, long>(StringComparer.Ordinal);
        foreach (var line in File.ReadLines(string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/smaps")).Append("0-0 end"))
        {
            var name = line.Split(' ', 2)[0];
            if (name.EndsWith(':'))
            {
                if (line.EndsWith(" kB", StringComparison.Ordinal))
                {
                    values[name[..^1]] = Kilobytes(line);
                }

                continue;
            }

            if (values.TryGetValue("Size", out var size) && size == bytes)
            {
                found ??= new MemoryMapping(header, values["Rss"], values["Pss"], values["Private_Dirty"], values["Anonymous"]);
            }

            (header, values) = (line, new Dictionary<string, long>(StringComparer.Ordinal));
        }

        return found ?? throw new InvalidDataException($"process {pid} has no mapping of {bytes} bytes");
    }

    /// <summary>
    /// Memory of the file in memory that a mapping shows, whoever else maps it. Zero where the mapping has none, or one on disk: that is page cache, which goes when it is needed.
    /// </summary>
    public static long FileOf(int pid, MemoryMapping mapping)
    {
        ArgumentNullException.ThrowIfNull(mapping);
        if (!mapping.Header.Contains("memfd:", StringComparison.Ordinal))
        {
            return 0;
        }

        // Through the mapping itself: its descriptor may be closed.
        var path = string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}/map_files/{mapping.Header.Split(' ')[0]}");
        using var stat = Process.Start(new ProcessStartInfo("stat", ["-L", "-c", "%b", path]) { RedirectStandardOutput = true })!;
        var blocks = stat.StandardOutput.ReadToEnd();
        stat.WaitForExit();
        return long.Parse(blocks, CultureInfo.InvariantCulture) * 512;
    }

    private static long Field(string path, string name) =>
        Kilobytes(File.ReadLines(path).First(l => l.StartsWith(name + ":", StringComparison.Ordinal)));

    private static long Kilobytes(string line) => long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
}

/// <summary>One mapping. In bytes.</summary>
/// <param name="Header">Its line: addresses, rights, offset, device, inode, path.</param>
/// <param name="Resident">In memory.</param>
/// <param name="Proportional">The same, a page that n processes share counted 1/n.</param>
/// <param name="PrivateDirty">Written, and this process's alone.</param>
/// <param name="Anonymous">No longer a file's, or never one's.</param>
internal sealed record MemoryMapping(string Header, long Resident, long Proportional, long PrivateDirty, long Anonymous)
{
    /// <summary>Device and inode of the file behind it.</summary>
    public string File => string.Join(' ', Header.Split(' ', StringSplitOptions.RemoveEmptyEntries)[3..5]);
}
