using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>What a paused machine's disk has that the golden one has not, set aside in a file without a name, so that the machine can run on while it is written to a sink.</summary>
internal sealed class DiskAside : IDisposable
{
    private readonly SafeFileHandle _file;
    private readonly List<(long Index, int Length)> _blocks = [];

    private DiskAside(SafeFileHandle file) => _file = file;

    public static DiskAside Take(SafeFileHandle disk, SafeFileHandle? golden, long length, string directory)
    {
        var path = Path.Combine(directory, $".set-aside-{Guid.NewGuid():N}");
        var aside = new DiskAside(File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite));
        try
        {
            File.Delete(path);
            var end = 0L;
            foreach (var block in DiskDifference.Of(disk, golden, length))
            {
                RandomAccess.Write(aside._file, block.Data.Span, end);
                aside._blocks.Add((block.Index, block.Data.Length));
                end += block.Data.Length;
            }

            return aside;
        }
        catch
        {
            aside.Dispose();
            throw;
        }
    }

    /// <summary>The blocks, ascending; the data of one is overwritten by the next.</summary>
    public IEnumerable<MachineBlock> Blocks()
    {
        var buffer = new byte[MachineBlock.DiskBlock];
        var at = 0L;
        foreach (var (index, length) in _blocks)
        {
            SparseFile.ReadFully(_file, buffer.AsSpan(0, length), at);
            at += length;
            yield return new MachineBlock(index, buffer.AsMemory(0, length));
        }
    }

    public void Dispose() => _file.Dispose();
}
