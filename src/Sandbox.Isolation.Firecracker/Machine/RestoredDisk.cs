using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Golden;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>The disk of a machine that is being restored: beside its place until the machine runs. One that was not placed is removed.</summary>
internal sealed class RestoredDisk : IDisposable
{
    private readonly string _path;

    private RestoredDisk(string path) => _path = path;

    /// <summary>Where it is until it is placed.</summary>
    public string PartialPath => _path + DataDisk.Partial;

    /// <summary>Writes what the golden disk has (or nothing but a hole), and the saved blocks over it.</summary>
    /// <exception cref="InvalidDataException">The source breaks a rule.</exception>
    public static async Task<RestoredDisk> WriteAsync(string path, GoldenSnapshot? golden, IMachineSource source, CancellationToken cancellationToken)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        var disk = new RestoredDisk(path);
        File.Delete(disk.PartialPath);
        try
        {
            using var file = File.OpenHandle(disk.PartialPath, FileMode.CreateNew, FileAccess.ReadWrite);
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            using (var before = golden is null ? null : File.OpenHandle(Path.Combine(golden.Directory, GoldenContent.Disk)))
            {
                await Task.Run(() => DataDisk.Begin(file, before, source.Facts.DiskBytes), cancellationToken);
            }

            var zeros = new byte[MachineBlock.DiskBlock];
            await foreach (var block in SourceRules.DiskOf(source, cancellationToken))
            {
                var offset = block.Index * MachineBlock.DiskBlock;
                RandomAccess.Write(file, block.Data.IsEmpty ? zeros.AsSpan(0, (int)Math.Min(zeros.Length, source.Facts.DiskBytes - offset)) : block.Data.Span, offset);
            }

            return disk;
        }
        catch
        {
            disk.Dispose();
            throw;
        }
    }

    /// <summary>Puts it into its place.</summary>
    public void Place() => File.Move(PartialPath, _path, overwrite: true);

    public void Dispose() => File.Delete(PartialPath);
}
