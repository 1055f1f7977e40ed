using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Oci.Machine;

/// <summary>
/// A checkpoint of gVisor as a saved machine's memory: its files one after the other, each beginning at a page; their names and lengths are what a saved machine calls its devices.
/// </summary>
internal static class CheckpointFiles
{
    private const int Version = 1;
    private const int Page = MachineBlock.MemoryBlock;

    /// <summary>More files than any gVisor writes.</summary>
    private const int MaxFiles = 16;

    /// <summary>The files of a directory, and the table of them.</summary>
    public static (byte[] Table, long MemoryBytes) Describe(string directory)
    {
        var files = Directory.GetFiles(directory).Order(StringComparer.Ordinal).Select(f => new Entry(Path.GetFileName(f), new FileInfo(f).Length)).ToArray();
        return (JsonSerializer.SerializeToUtf8Bytes(new Table(Version, files)), files.Sum(f => Whole(f.Length)));
    }

    /// <summary>Gives every page to a sink. Returns how many bytes were not zero.</summary>
    public static async Task<long> WriteAsync(string directory, IMachineSink sink, CancellationToken cancellationToken)
    {
        var buffer = new byte[Page * 64];
        var (index, bytes) = (0L, 0L);
        foreach (var path in Directory.GetFiles(directory).Order(StringComparer.Ordinal))
        {
            using var file = File.OpenHandle(path);
            var length = RandomAccess.GetLength(file);
            for (var at = 0L; at < length; at += buffer.Length)
            {
                SparseFile.ReadFully(file, buffer, at);
                for (var page = 0; page * Page < Math.Min(buffer.Length, length - at); page++, index++)
                {
                    var data = buffer.AsMemory(page * Page, Page);
                    if (data.Span.ContainsAnyExcept((byte)0))
                    {
                        await sink.WriteMemoryAsync(new MachineBlock(index, data), cancellationToken);
                        bytes += Page;
                    }
                }
            }
        }

        return bytes;
    }

    /// <summary>Makes the files again.</summary>
    /// <exception cref="InvalidDataException">The source is none of this, or contradicts itself.</exception>
    public static async Task ReadAsync(string directory, byte[] table, IMachineSource source, CancellationToken cancellationToken)
    {
        var entries = Parse(table, source.Facts.MemoryBytes);
        Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        var begins = new List<(long FirstPage, SafeFileHandle File, long Length)>();
        try
        {
            var next = 0L;
            foreach (var entry in entries)
            {
                var file = File.OpenHandle(Path.Combine(directory, entry.Name), FileMode.CreateNew, FileAccess.ReadWrite);
                begins.Add((next, file, entry.Length));
                RandomAccess.SetLength(file, entry.Length);
                next += Whole(entry.Length) / Page;
            }

            var current = 0;
            await foreach (var block in SourceRules.MemoryOf(source, cancellationToken))
            {
                while (current + 1 < begins.Count && begins[current + 1].FirstPage <= block.Index)
                {
                    current++;
                }

                var (first, file, length) = begins[current];
                var offset = (block.Index - first) * Page;
                if (!block.Data.IsEmpty)
                {
                    RandomAccess.Write(file, block.Data.Span[..(int)Math.Min(Page, length - offset)], offset);
                }
            }
        }
        finally
        {
            foreach (var (_, file, _) in begins)
            {
                file.Dispose();
            }
        }
    }

    private static Entry[] Parse(byte[] bytes, long memoryBytes)
    {
        Table? table;
        try
        {
            table = JsonSerializer.Deserialize<Table>(bytes);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"The table of a checkpoint's files cannot be read: {e.Message}", e);
        }

        if (table is not { Version: Version, Files.Length: > 0 and <= MaxFiles }
            || table.Files.Any(f => f.Length < 0 || f.Name.Length is 0 or > 100 || f.Name.StartsWith('.') || !f.Name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-'))
            || table.Files.DistinctBy(f => f.Name).Count() != table.Files.Length
            || table.Files.Sum(f => Whole(f.Length)) != memoryBytes)
        {
            throw new InvalidDataException("The table of a checkpoint's files contradicts itself, or is of another version of this program.");
        }

        return table.Files;
    }

    private static long Whole(long length) => (length + Page - 1) / Page * Page;

    private sealed record Table(int Version, Entry[] Files);

    private sealed record Entry(string Name, long Length);
}
