using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>
/// The memory of a guest, as it lies in its QEMU: one stretch of mappings of memory files, private for a clone and shared for a machine that was booted. Once opened it is that process's for good, whatever becomes of
/// the process's number.
/// </summary>
internal sealed class ProcessMemory : IDisposable
{
    public const int Page = MachineBlock.MemoryBlock;
    private const ulong PresentOrSwapped = 3UL << 62;
    private const ulong FileBacked = 1UL << 61;
    private readonly SafeFileHandle _memory;
    private readonly SafeFileHandle _pages;
    private readonly long _base;

    private ProcessMemory(SafeFileHandle memory, SafeFileHandle pages, long begin, long size) => (_memory, _pages, _base, Size) = (memory, pages, begin, size);

    /// <summary>In bytes.</summary>
    public long Size { get; }

    /// <exception cref="IsolationException">The process has no such mapping, or this program may not look into it.</exception>
    public static ProcessMemory Open(int pid, long size)
    {
        var directory = string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}");
        SafeFileHandle? memory = null, pages = null;
        try
        {
            memory = File.OpenHandle(directory + "/mem", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            pages = File.OpenHandle(directory + "/pagemap", FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            return new ProcessMemory(memory, pages, Find(directory + "/maps", size), size);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or IsolationException)
        {
            memory?.Dispose();
            pages?.Dispose();
            throw new IsolationException($"The memory of process {pid} cannot be opened: {e.Message}", e);
        }
    }

    public void Dispose()
    {
        _memory.Dispose();
        _pages.Dispose();
    }

    /// <summary>Where a page is in the process.</summary>
    public long AddressOf(long page) => _base + (page * Page);

    /// <summary>Reads whole pages.</summary>
    /// <exception cref="IOException">The process is gone.</exception>
    public void Read(long page, Span<byte> buffer)
    {
        for (var offset = AddressOf(page); buffer.Length > 0;)
        {
            var read = RandomAccess.Read(_memory, buffer, offset);
            if (read == 0)
            {
                throw new IOException("The machine's process is gone.");
            }

            buffer = buffer[read..];
            offset += read;
        }
    }

    /// <summary>Writes whole pages; in a private mapping they become the process's own.</summary>
    /// <exception cref="IOException">The process is gone.</exception>
    public void Write(long page, ReadOnlySpan<byte> data) => RandomAccess.Write(_memory, data, AddressOf(page));

    /// <summary>
    /// Pages that are the process's own: present or swapped, and not of the file. Only for a private mapping.
    /// </summary>
    public List<PageRun> OwnPages()
    {
        List<PageRun> runs = [];
        var entries = new ulong[16384];
        var bytes = MemoryMarshal.AsBytes(entries.AsSpan());
        var total = Size / Page;
        long begin = -1;
        for (var at = 0L; at < total; at += entries.Length)
        {
            var count = (int)Math.Min(entries.Length, total - at);
            ReadEntries(at, bytes[..(count * sizeof(ulong))]);
            for (var i = 0; i < count; i++)
            {
                var own = (entries[i] & PresentOrSwapped) != 0 && (entries[i] & FileBacked) == 0;
                if (own == (begin >= 0))
                {
                    continue;
                }

                if (own)
                {
                    begin = at + i;
                }
                else
                {
                    runs.Add(new PageRun(begin, at + i - begin));
                    begin = -1;
                }
            }
        }

        if (begin >= 0)
        {
            runs.Add(new PageRun(begin, total - begin));
        }

        return runs;
    }

    private void ReadEntries(long page, Span<byte> buffer)
    {
        for (var offset = ((_base / Page) + page) * sizeof(ulong); buffer.Length > 0;)
        {
            var read = RandomAccess.Read(_pages, buffer, offset);
            if (read == 0)
            {
                throw new IOException("The machine's process is gone.");
            }

            buffer = buffer[read..];
            offset += read;
        }
    }

    /// <summary>The one stretch of mappings of a memory file that is as large as the guest's memory. The kernel may show it in pieces.</summary>
    private static long Find(string maps, long size)
    {
        long begin = 0, end = 0;
        foreach (var line in File.ReadLines(maps))
        {
            var name = line.IndexOf('/', StringComparison.Ordinal);
            var dash = line.IndexOf('-', StringComparison.Ordinal);
            var space = line.IndexOf(' ', StringComparison.Ordinal);
            if (name < 0 || !line.AsSpan(name).StartsWith("/memfd:", StringComparison.Ordinal)
                || !long.TryParse(line.AsSpan(0, dash), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var from)
                || !long.TryParse(line.AsSpan(dash + 1, space - dash - 1), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out var to))
            {
                continue;
            }

            (begin, end) = from == end ? (begin, to) : (from, to);
            if (end - begin == size)
            {
                return begin;
            }
        }

        throw new IsolationException($"The process has no mapping of {size} bytes that could be its guest's memory.");
    }
}

/// <summary>Neighbouring pages.</summary>
internal readonly record struct PageRun(long First, long Count);
