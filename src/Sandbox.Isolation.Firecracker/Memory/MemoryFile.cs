using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Golden;

namespace Sandbox.Isolation.Firecracker.Memory;

/// <summary>
/// The memory that a machine is loaded with: a file with a byte for each of the guest's, which must not change while the machine lives. Disposing gives up one hold on it; the last one removes a file that
/// was made for the machine.
/// </summary>
internal sealed class MemoryFile : IDisposable
{
    /// <summary>Each machine's user maps it. What keeps others out is the directory.</summary>
    private const UnixFileMode ReadableByAll = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;

    private readonly Action? _release;
    private int _disposed;

    private MemoryFile(string path, long[] replaced, SafeFileHandle file, Action? release) => (Path, Replaced, File, _release) = (path, replaced, file, release);

    /// <summary>Where it is.</summary>
    public string Path { get; }

    /// <summary>The file, open for reading.</summary>
    public SafeFileHandle File { get; }

    /// <summary>Pages in which it may differ from the golden snapshot's memory (or from zeros), ascending.</summary>
    public long[] Replaced { get; }

    /// <summary>A golden snapshot's own.</summary>
    public static MemoryFile Of(GoldenSnapshot golden)
    {
        var path = System.IO.Path.Combine(golden.Directory, GoldenContent.Memory);
        var file = System.IO.File.OpenHandle(path);
        try
        {
            // One of another host was written by whatever this process's umask left.
            if ((System.IO.File.GetUnixFileMode(file) & UnixFileMode.OtherRead) == 0)
            {
                System.IO.File.SetUnixFileMode(file, ReadableByAll);
            }

            return new MemoryFile(path, [], file, null);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>One that is there, with its own removal.</summary>
    public static MemoryFile Open(string path, long[] replaced, Action release)
    {
        try
        {
            return new MemoryFile(path, replaced, System.IO.File.OpenHandle(path), release);
        }
        catch
        {
            release();
            throw;
        }
    }

    /// <summary>Writes the memory of a saved machine: the golden one, and its own pages over it. Returns the pages that were written.</summary>
    /// <exception cref="InvalidDataException">The source breaks a rule.</exception>
    public static async Task<long[]> WriteAsync(string path, GoldenSnapshot? golden, IMachineSource source, CancellationToken cancellationToken)
    {
        List<long> replaced = [];
        var zeros = new byte[MachineBlock.MemoryBlock];
        using var file = System.IO.File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite);
        System.IO.File.SetUnixFileMode(file, ReadableByAll);
        using (var before = golden is null ? null : System.IO.File.OpenHandle(System.IO.Path.Combine(golden.Directory, GoldenContent.Memory)))
        {
            DataDisk.Begin(file, before, source.Facts.MemoryBytes);
        }

        await foreach (var block in SourceRules.MemoryOf(source, cancellationToken))
        {
            if (block.Data.IsEmpty && golden is null)
            {
                continue;
            }

            RandomAccess.Write(file, (block.Data.IsEmpty ? zeros : block.Data).Span, block.Index * MachineBlock.MemoryBlock);
            replaced.Add(block.Index);
        }

        return [.. replaced];
    }

    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            File.Dispose();
            _release?.Invoke();
        }
    }
}
