using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Disks;

/// <summary>
/// The writable disk of a session: a sparse raw file with ext4. Formatting takes tens of milliseconds, so a blank of each size is kept and copied
/// (by reflink where the file system can, else only its few written blocks).
/// </summary>
public sealed partial class DataDisk(string cacheDirectory)
{
    /// <summary>What a disk that is being written is called, behind its own name.</summary>
    public const string Partial = ".partial";

    /// <summary>FICLONE.</summary>
    private const uint CloneRange = 0x40049409;

    private readonly SemaphoreSlim _formatting = new(1, 1);

    /// <summary>Makes the disk if it is not there. Returns whether it was.</summary>
    public async Task<bool> EnsureAsync(string path, int sizeMiB, CancellationToken cancellationToken)
    {
        var file = new FileInfo(path);
        if (file.LinkTarget is not null)
        {
            throw new IsolationException($"The disk {path} is a symbolic link; it must be a regular file.");
        }

        if (file.Exists)
        {
            return true;
        }

        await CopyAsync(await BlankAsync(sizeMiB, cancellationToken), path, cancellationToken);
        return false;
    }

    /// <summary>Copies a disk, holes and all. The copy is there whole or not at all.</summary>
    public static async Task CopyAsync(string from, string path, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var partial = path + Partial;
        await RunAsync(cancellationToken, "cp", "--sparse=always", "--reflink=auto", from, partial);
        File.SetUnixFileMode(partial, UnixFileMode.UserRead | UnixFileMode.UserWrite);
        File.Move(partial, path);
    }

    /// <summary>Makes a new disk what a golden one is, holes and all, or nothing but a hole. By reflink where the file system can.</summary>
    public static void Begin(SafeFileHandle disk, SafeFileHandle? golden, long length)
    {
        if (golden is not null && Clone(disk, CloneRange, golden) == 0)
        {
            return;
        }

        RandomAccess.SetLength(disk, length);
        if (golden is not null)
        {
            SparseFile.CopyData(golden, disk, length);
        }
    }

    [LibraryImport("libc", EntryPoint = "ioctl")]
    private static partial int Clone(SafeFileHandle to, nuint operation, SafeFileHandle from);

    private async Task<string> BlankAsync(int sizeMiB, CancellationToken cancellationToken)
    {
        var blank = Path.Combine(cacheDirectory, string.Create(CultureInfo.InvariantCulture, $"blank-{sizeMiB}.ext4"));
        await _formatting.WaitAsync(cancellationToken);
        try
        {
            if (!File.Exists(blank))
            {
                Directory.CreateDirectory(cacheDirectory);
                var partial = $"{blank}.{Environment.ProcessId}";
                using (var file = File.Create(partial))
                {
                    file.SetLength((long)sizeMiB << 20);
                }

                await RunAsync(cancellationToken, "mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^resize_inode", "-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", "-J", "size=4", partial);
                File.Move(partial, blank, overwrite: true);
            }
        }
        finally
        {
            _formatting.Release();
        }

        return blank;
    }

    private static async Task RunAsync(CancellationToken cancellationToken, params string[] command)
    {
        var program = new[] { "/usr/bin", "/usr/sbin", "/bin", "/sbin" }.Select(d => Path.Combine(d, command[0])).FirstOrDefault(File.Exists)
            ?? throw new IsolationException($"There is no {command[0]} on this host; apt-get install e2fsprogs coreutils");
        var start = new ProcessStartInfo(program) { RedirectStandardError = true };
        foreach (var argument in command[1..])
        {
            start.ArgumentList.Add(argument);
        }

        using var process = Process.Start(start)!;
        string error;
        try
        {
            error = await process.StandardError.ReadToEndAsync(cancellationToken);
            await process.WaitForExitAsync(cancellationToken);
        }
        catch (OperationCanceledException)
        {
            // It must not go on writing a file that is being removed.
            process.Kill();
            await process.WaitForExitAsync(CancellationToken.None);
            throw;
        }

        if (process.ExitCode != 0)
        {
            throw new IsolationException($"Cannot make the session's disk: {command[0]} failed: {error.Trim()}");
        }
    }
}
