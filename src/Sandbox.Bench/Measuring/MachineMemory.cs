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

    /// <summary>The stretch of a process's mappings that has exactly a size: one of them, or neighbours that are of files in memory.</summary>
    /// <exception cref="InvalidDataException">There is none.</exception>
    public static GuestMapping MappingOf(int pid, long bytes)
    {
        List<MemoryMapping> stretch = [];
        foreach (var mapping in MappingsOf(pid))
        {
            if (mapping.Size == bytes)
            {
                return new GuestMapping(pid, [mapping]);
            }

            if (!mapping.IsMemoryFile || (stretch.Count > 0 && stretch[^1].End != mapping.Begin))
            {
                stretch.Clear();
            }

            if (mapping.IsMemoryFile)
            {
                stretch.Add(mapping);
                if (mapping.End - stretch[0].Begin == bytes)
                {
                    return new GuestMapping(pid, stretch);
                }
            }
        }

        throw new InvalidDataException($"process {pid} has no mapping of {bytes} bytes");
    }

    /// <summary>
    /// Memory of the file in memory that a mapping shows, whoever else maps it. Zero where the mapping has none, or one on disk: that is page cache, which goes when it is needed.
    /// </summary>
    public static long FileOf(int pid, MemoryMapping mapping)
    {
        ArgumentNullException.ThrowIfNull(mapping);
        if (!mapping.IsMemoryFile)
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

    private static IEnumerable<MemoryMapping> MappingsOf(int pid)
    {
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

            if (values.Count > 0)
            {
                yield return new MemoryMapping(header, values["Rss"], values["Pss"], values["Private_Dirty"], values["Anonymous"]);
            }

            (header, values) = (line, new Dictionary<string, long>(StringComparer.Ordinal));
        }
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

    /// <summary>Whether that is one in memory.</summary>
    public bool IsMemoryFile => Header.Contains("/memfd:", StringComparison.Ordinal);

    public long Begin => Address(0);

    /// <summary>The first address behind it.</summary>
    public long End => Address(1);

    public long Size => End - Begin;

    private long Address(int part) => unchecked((long)ulong.Parse(Header.Split(' ', 2)[0].Split('-')[part], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
}

/// <summary>The memory of a guest in its process, which may be made of pieces of several files. In bytes.</summary>
internal sealed record GuestMapping(int Pid, IReadOnlyList<MemoryMapping> Pieces)
{
    public long Resident => Pieces.Sum(p => p.Resident);

    public long Proportional => Pieces.Sum(p => p.Proportional);

    public long PrivateDirty => Pieces.Sum(p => p.PrivateDirty);

    public long Anonymous => Pieces.Sum(p => p.Anonymous);

    /// <summary>A mapping of each file behind it.</summary>
    public IEnumerable<MemoryMapping> Files => Pieces.DistinctBy(p => p.File);
}
