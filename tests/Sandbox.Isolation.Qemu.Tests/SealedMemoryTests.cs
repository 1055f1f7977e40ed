using System.IO.MemoryMappedFiles;
using Sandbox.Isolation.Qemu.Memory;
using Xunit;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>What several machines map: whoever gets its descriptor can do nothing to the others.</summary>
public sealed class SealedMemoryTests
{
    private const int Page = 4096;

    [Fact]
    public void A_layer_holds_what_was_put_into_it_and_nobody_can_change_it_any_more()
    {
        using var writer = new LayerWriter();
        writer.Reserve(2);
        foreach (var (first, count) in new[] { (3L, 2), (5L, 1), (9L, 3) })
        {
            for (var i = 0; i < count; i++)
            {
                writer.Add(new PageRun(first + i, 1)).Fill((byte)(first + i));
            }
        }

        using var layer = writer.Seal();
        Assert.Equal([3, 4, 5, 9, 10, 11], layer.Pages);
        Assert.Equal([(new PageRun(3, 3), 0), (new PageRun(9, 3), 3)], layer.Runs());
        Assert.All(Enumerable.Range(0, 6), i => Assert.Equal(-1, layer.At(i).IndexOfAnyExcept((byte)layer.Pages[i])));
        Assert.Equal(6 * Page, layer.Memory.Size);

        // As QEMU opens it.
        using var again = File.OpenHandle(layer.Memory.Path, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        Assert.ThrowsAny<Exception>(() => RandomAccess.Write(again, new byte[1], 0));
        Assert.ThrowsAny<Exception>(() => RandomAccess.Write(again, new byte[1], 6 * Page));
        Assert.ThrowsAny<Exception>(() => RandomAccess.SetLength(again, Page));
        using var stream = new FileStream(again, FileAccess.ReadWrite);
        Assert.ThrowsAny<Exception>(() => MemoryMappedFile.CreateFromFile(stream, null, 0, MemoryMappedFileAccess.ReadWrite, HandleInheritability.None, leaveOpen: true).CreateViewAccessor());
        Assert.All(Enumerable.Range(0, 6), i => Assert.Equal(-1, layer.At(i).IndexOfAnyExcept((byte)layer.Pages[i])));
    }
}
