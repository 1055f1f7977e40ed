using System.Buffers.Binary;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Kernel;
using Sandbox.Isolation.Firecracker.Tests.Fixture;
using Sandbox.Isolation.Images;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>Taking the kernel out of a bzImage.</summary>
public sealed class KernelTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_kernel_of_the_guest_image_comes_out_as_an_ELF_file_for_x86_64()
    {
        var image = new ImageStore(Environment.GetEnvironmentVariable("SANDBOX_IMAGE_ROOT") ?? ImageStore.DefaultRoot).FindCurrent("python");
        Assert.SkipWhen(image is null, "There is no guest image; ./scripts/test builds it.");
        var packed = await File.ReadAllBytesAsync(Path.Combine(image, TemplateImage.Load(image).Kernel), Ct);

        var kernel = await BzImage.ExtractAsync(packed, Ct);

        Assert.True(kernel.Length > packed.Length);

        // 64 bits, little-endian, executable, x86-64; and it begins where Linux is loaded on this machine, at 16 MiB.
        Assert.Equal((2, 1, 2, 62), (kernel[4], kernel[5], BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(16)), BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(18))));
        Assert.Equal(0x1000000ul, BinaryPrimitives.ReadUInt64LittleEndian(kernel.AsSpan(24)));
        Assert.True(kernel.AsSpan().IndexOf("Linux version 6."u8) > 0);

        // The last section header lies inside of the file: nothing is cut off.
        var sections = BinaryPrimitives.ReadUInt64LittleEndian(kernel.AsSpan(40)) + (ulong)(BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(58)) * BinaryPrimitives.ReadUInt16LittleEndian(kernel.AsSpan(60)));
        Assert.InRange(sections, 1ul, (ulong)kernel.Length);
    }

    [Fact]
    public async Task A_kernel_packed_with_gzip_or_LZ4_or_not_at_all_comes_out_whole()
    {
        var kernel = FakeImage.Kernel;
        Assert.Equal(kernel, await BzImage.ExtractAsync(FakeImage.BzImageOf(kernel), Ct));
        Assert.Equal(kernel, await BzImage.ExtractAsync(FakeImage.Wrap(kernel), Ct));
        Assert.Equal(kernel, await BzImage.ExtractAsync(FakeImage.Wrap(Lz4Of(kernel)), Ct));
    }

    [Fact]
    public void LZ4_copies_that_overlap_themselves_repeat_a_pattern()
    {
        // Two literals, then a copy of 3 + 4 bytes from two bytes back; then one literal.
        byte[] block = [0x23, (byte)'a', (byte)'b', 2, 0, 0x10, (byte)'!'];
        Assert.Equal("ababababa!"u8.ToArray(), Lz4Legacy.Decompress(Frame(block), 10));
    }

    [Theory]
    [InlineData(new byte[] { 0x23, 1, 2, 3, 0, 0x10, 9 }, "a copy from before the beginning")]
    [InlineData(new byte[] { 0x23, 1, 2, 0, 0, 0x10, 9 }, "a copy from here")]
    [InlineData(new byte[] { 0xf0, 255, 255 }, "a length that does not end")]
    [InlineData(new byte[] { 0x50, 1 }, "literals that are not there")]
    [InlineData(new byte[] { 0x20, 1, 2, 1 }, "half an offset")]
    [InlineData(new byte[] { 0x2f, 1, 2, 1, 0, 200 }, "more than there is room for")]
    public void Damaged_LZ4_is_refused(byte[] block, string what) =>
        Assert.True(Record.Exception(() => Lz4Legacy.Decompress(Frame(block), 10)) is InvalidDataException, what);

    [Fact]
    public async Task What_is_no_bzImage_is_refused_with_the_reason()
    {
        var tooOld = FakeImage.Wrap(FakeImage.Kernel, version: 0x207);
        var cut = FakeImage.BzImageOf(FakeImage.Kernel)[..^150];
        var unknown = FakeImage.Wrap([1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 0]);
        foreach (var (image, said) in ((byte[], string)[])[(new byte[10], "no bzImage"), (tooOld, "2.07"), (cut, $"the file has {cut.Length}"), (unknown, "0x04030201")])
        {
            Assert.Contains(said, (await Assert.ThrowsAsync<InvalidDataException>(() => BzImage.ExtractAsync(image, Ct))).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_kernel_is_unpacked_once_for_an_image_and_its_fault_says_which_file()
    {
        var folder = Directory.CreateTempSubdirectory("kernel-").FullName;
        try
        {
            var image = FakeImage.Make(Path.Combine(folder, "image"));
            var kernels = new GuestKernel(Path.Combine(folder, "cache"));
            var paths = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => kernels.EnsureAsync(image, Ct)));
            Assert.Equal(FakeImage.Kernel, await File.ReadAllBytesAsync(Assert.Single(paths.Distinct()), Ct));

            await File.WriteAllBytesAsync(Path.Combine(image, "vmlinuz"), new byte[5000], Ct);
            File.SetLastWriteTimeUtc(Path.Combine(image, "vmlinuz"), DateTime.UnixEpoch);
            var e = await Assert.ThrowsAsync<IsolationException>(() => kernels.EnsureAsync(image, Ct));
            Assert.Contains(Path.Combine(image, "vmlinuz"), e.Message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>Literals only: legal, and no compression.</summary>
    private static byte[] Lz4Of(byte[] data)
    {
        List<byte> block = [0xf0];
        for (var rest = data.Length - 15; ; rest -= 255)
        {
            block.Add((byte)Math.Min(rest, 255));
            if (rest < 255)
            {
                break;
            }
        }

        return [.. Frame([.. block, .. data]), .. BitConverter.GetBytes(data.Length)];
    }

    private static byte[] Frame(byte[] block) => [.. BitConverter.GetBytes(Lz4Legacy.Magic), .. BitConverter.GetBytes(block.Length), .. block];
}
