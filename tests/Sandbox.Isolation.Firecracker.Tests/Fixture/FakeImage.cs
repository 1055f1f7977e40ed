using System.Buffers.Binary;
using System.IO.Compression;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Firecracker.Tests.Fixture;

/// <summary>An image with files of the right kinds and next to nothing in them.</summary>
internal static class FakeImage
{
    public static string Make(string directory)
    {
        Directory.CreateDirectory(directory);
        File.WriteAllBytes(Path.Combine(directory, "vmlinuz"), BzImageOf(Kernel));
        File.WriteAllBytes(Path.Combine(directory, "initramfs.img"), new byte[4096].Select(_ => (byte)7).ToArray());
        File.WriteAllBytes(Path.Combine(directory, "root.erofs"), new byte[65536]);
        new TemplateImage { Template = "fake", Version = "0123456789abcdef", BuiltAt = DateTimeOffset.UnixEpoch, KernelRelease = "6.1.0", Languages = [] }.Save(directory);
        foreach (var file in Directory.GetFiles(directory))
        {
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        }

        return directory;
    }

    /// <summary>What a kernel begins with, and then some.</summary>
    public static byte[] Kernel { get; } = [0x7f, (byte)'E', (byte)'L', (byte)'F', .. Enumerable.Range(0, 70_000).Select(i => (byte)(i % 251))];

    /// <summary>A bzImage around a kernel, packed with gzip.</summary>
    public static byte[] BzImageOf(byte[] kernel)
    {
        using var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true))
        {
            gzip.Write(kernel);
        }

        return Wrap(packed.ToArray());
    }

    /// <summary>A bzImage around what is packed already.</summary>
    public static byte[] Wrap(byte[] payload, ushort version = 0x20f)
    {
        const int Setup = 3;
        const int Offset = 64;
        var image = new byte[((Setup + 1) * 512) + Offset + payload.Length + 100];
        image[0x1f1] = Setup;
        "HdrS"u8.CopyTo(image.AsSpan(0x202));
        BinaryPrimitives.WriteUInt16LittleEndian(image.AsSpan(0x206), version);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(0x248), Offset);
        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(0x24c), (uint)payload.Length);
        payload.CopyTo(image, ((Setup + 1) * 512) + Offset);
        return image;
    }
}
