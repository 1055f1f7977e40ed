using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Wasm.Machine;

/// <summary>
/// The session's disk on the host: a sparse file that the worker keeps a file system of its own in. Only its bytes are handled here. A new one is a hole; the worker gives back what it frees, so what
/// is no hole is what a snapshot has to carry.
/// </summary>
internal static partial class SessionDisk
{
    /// <summary>Changes with the format that the worker writes.</summary>
    public const string Fingerprint = "wasm-disk-1";

    private const int SeekData = 3;
    private const int SeekHole = 4;

    /// <summary>What a saved machine is.</summary>
    public static MachineFacts Facts(long bytes) => new(WasmBackend.BackendName, Fingerprint, null, 0, bytes);

    /// <summary>Opens the disk; makes it if it is not there. Says whether it was made.</summary>
    public static (SafeFileHandle File, bool Made) Open(string path, long bytes)
    {
        var file = new FileInfo(path);
        if (file.LinkTarget is not null || Directory.Exists(path))
        {
            throw new IsolationException($"The disk {path} is a symbolic link or a directory; it must be a regular file.");
        }

        if (file.Exists)
        {
            return file.Length == bytes
                ? (File.OpenHandle(path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite), false)
                : throw new IsolationException($"The disk {path} has {file.Length} bytes instead of {bytes}.");
        }

        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var made = Make(path, bytes);
        return (made, true);
    }

    /// <summary>Writes a saved disk to its place. It is there whole or not at all.</summary>
    public static async Task RestoreAsync(IMachineSource source, string path, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var partial = path + ".partial";
        try
        {
            using (var file = Make(partial, source.Facts.DiskBytes))
            {
                await foreach (var block in source.ReadDiskAsync(cancellationToken).ConfigureAwait(false))
                {
                    var at = block.Index * MachineBlock.DiskBlock;
                    if (at < 0 || at + block.Data.Length > source.Facts.DiskBytes)
                    {
                        throw new InvalidDataException($"a block at {at} is beyond the disk's {source.Facts.DiskBytes} bytes");
                    }

                    if (!block.Data.IsEmpty)
                    {
                        RandomAccess.Write(file, block.Data.Span, at);
                    }
                }
            }

            File.Move(partial, path);
        }
        catch
        {
            File.Delete(partial);
            throw;
        }
    }

    /// <summary>Copies a disk, holes and all, to a file that has no name any more when this returns.</summary>
    public static SafeFileHandle Copy(SafeFileHandle disk, string beside)
    {
        var length = RandomAccess.GetLength(disk);
        var path = $"{beside}.saving-{Guid.NewGuid():N}";
        var copy = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.None);
        try
        {
            File.Delete(path);
            RandomAccess.SetLength(copy, length);
            var buffer = new byte[1 << 20];
            foreach (var (from, to) in Data(disk, length))
            {
                for (var at = from; at < to;)
                {
                    var n = RandomAccess.Read(disk, buffer.AsSpan(0, (int)Math.Min(buffer.Length, to - at)), at);
                    if (n == 0)
                    {
                        break;
                    }

                    RandomAccess.Write(copy, buffer.AsSpan(0, n), at);
                    at += n;
                }
            }

            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    /// <summary>Gives the blocks of a disk that hold anything to a sink. Returns their bytes.</summary>
    public static async Task<long> WriteAsync(SafeFileHandle disk, IMachineSink sink, CancellationToken cancellationToken)
    {
        var length = RandomAccess.GetLength(disk);
        var buffer = new byte[MachineBlock.DiskBlock];
        var (written, next) = (0L, 0L);
        foreach (var (from, to) in Data(disk, length))
        {
            for (var index = Math.Max(next, from / buffer.Length); index * buffer.Length < to; index++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                next = index + 1;
                var block = buffer.AsMemory(0, (int)Math.Min(buffer.Length, length - (index * buffer.Length)));
                ReadFully(disk, block.Span, index * buffer.Length);
                if (block.Span.ContainsAnyExcept((byte)0))
                {
                    await sink.WriteDiskAsync(new MachineBlock(index, block), cancellationToken).ConfigureAwait(false);
                    written += block.Length;
                }
            }
        }

        return written;
    }

    private static SafeFileHandle Make(string path, long bytes)
    {
        var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite);
        try
        {
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            RandomAccess.SetLength(file, bytes);
            return file;
        }
        catch
        {
            file.Dispose();
            File.Delete(path);
            throw;
        }
    }

    private static void ReadFully(SafeFileHandle file, Span<byte> data, long offset)
    {
        while (data.Length > 0 && RandomAccess.Read(file, data, offset) is > 0 and var n)
        {
            data = data[n..];
            offset += n;
        }

        data.Clear();
    }

    /// <summary>Stretches of a file that are no holes. All of it, where the file system cannot tell.</summary>
    private static IEnumerable<(long From, long To)> Data(SafeFileHandle file, long length)
    {
        for (var at = 0L; at < length;)
        {
            var from = Seek(file, at, SeekData);
            if (from < 0)
            {
                // ENXIO: nothing but a hole from here on.
                if (Marshal.GetLastPInvokeError() != 6)
                {
                    yield return (at, length);
                }

                yield break;
            }

            var to = Seek(file, from, SeekHole);
            yield return (from, to < 0 ? length : to);
            at = to < 0 ? length : to;
        }
    }

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    private static partial long Seek(SafeFileHandle file, long offset, int whence);
}
