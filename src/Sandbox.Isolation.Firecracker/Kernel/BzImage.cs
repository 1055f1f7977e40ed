using System.Buffers.Binary;
using System.Diagnostics;
using System.IO.Compression;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Firecracker.Kernel;

/// <summary>
/// Takes the kernel out of a bzImage: Firecracker loads an ELF file, Debian ships a program that unpacks itself. Where the packed kernel lies stands in the header of the x86 boot protocol (version 2.08
/// and later); the last four bytes of it are its unpacked size.
/// </summary>
internal static class BzImage
{
    private const int SetupSectorsAt = 0x1f1;
    private const int MagicAt = 0x202;
    private const int VersionAt = 0x206;
    private const int PayloadOffsetAt = 0x248;
    private const int PayloadLengthAt = 0x24c;
    private const int HeaderBytes = 0x250;

    /// <summary>Largest kernel that is unpacked, in bytes. Debian's cloud kernel has 53 MB.</summary>
    private const int MaxKernel = 256 << 20;

    private static ReadOnlySpan<byte> ElfMagic => [0x7f, (byte)'E', (byte)'L', (byte)'F'];

    /// <summary>The kernel as an ELF file.</summary>
    /// <exception cref="InvalidDataException">This is no bzImage, it is damaged, or it is packed in a way that cannot be unpacked here.</exception>
    public static async Task<byte[]> ExtractAsync(byte[] image, CancellationToken cancellationToken)
    {
        var kernel = await UnpackAsync(PayloadOf(image), cancellationToken);
        return kernel.AsSpan().StartsWith(ElfMagic) ? kernel : throw new InvalidDataException("What was packed in the kernel image is no ELF file.");
    }

    private static ReadOnlyMemory<byte> PayloadOf(byte[] image)
    {
        if (image.Length < HeaderBytes || !image.AsSpan(MagicAt, 4).SequenceEqual("HdrS"u8))
        {
            throw new InvalidDataException("This is no bzImage: the header of the boot protocol is missing.");
        }

        var version = BinaryPrimitives.ReadUInt16LittleEndian(image.AsSpan(VersionAt));
        if (version < 0x208)
        {
            throw new InvalidDataException($"This bzImage has boot protocol {version >> 8}.{version & 0xff:00}; where its kernel lies is said from 2.08 on.");
        }

        // 0 means 4, from the time of boot floppies. The setup code has a sector before it.
        var setup = image[SetupSectorsAt] == 0 ? 4 : image[SetupSectorsAt];
        var begin = ((setup + 1L) * 512) + BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(PayloadOffsetAt));
        var length = BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(PayloadLengthAt));
        return length > 8 && begin + length <= image.Length
            ? image.AsMemory((int)begin, (int)length)
            : throw new InvalidDataException($"The bzImage says that its kernel lies at {begin} with {length} bytes; the file has {image.Length}.");
    }

    private static async Task<byte[]> UnpackAsync(ReadOnlyMemory<byte> payload, CancellationToken cancellationToken)
    {
        if (payload.Span.StartsWith(ElfMagic))
        {
            return payload.ToArray();
        }

        var size = BinaryPrimitives.ReadUInt32LittleEndian(payload.Span[^4..]);
        if (size is 0 or > MaxKernel)
        {
            throw new InvalidDataException($"The packed kernel says that it has {size} bytes; at most {MaxKernel} are unpacked.");
        }

        var packed = payload[..^4];
        return BinaryPrimitives.ReadUInt32LittleEndian(packed.Span) switch
        {
            Lz4Legacy.Magic => Lz4Legacy.Decompress(packed.Span, (int)size),

            // gzip's own trailer is that size, so it is part of the data.
            var magic when (magic & 0xffff) == 0x8b1f => Gunzip(payload, (int)size),
            0xfd2fb528 => await RunAsync(["zstd", "-dcq"], packed, (int)size, cancellationToken),
            0x587a37fd => await RunAsync(["xz", "-dcq", "--single-stream"], packed, (int)size, cancellationToken),
            var magic => throw new InvalidDataException($"The kernel is packed in an unknown way (its data begins with 0x{magic:x8}); LZ4, gzip, zstd and xz are known."),
        };
    }

    private static byte[] Gunzip(ReadOnlyMemory<byte> packed, int size)
    {
        using var stream = new GZipStream(new MemoryStream(packed.ToArray()), CompressionMode.Decompress);
        var kernel = new byte[size];
        stream.ReadExactly(kernel);
        return kernel;
    }

    private static async Task<byte[]> RunAsync(string[] command, ReadOnlyMemory<byte> packed, int size, CancellationToken cancellationToken)
    {
        var program = new[] { "/usr/bin", "/bin" }.Select(d => Path.Combine(d, command[0])).FirstOrDefault(File.Exists)
            ?? throw new IsolationException($"The guest's kernel is packed with {command[0]}, which this host does not have; apt-get install {(command[0] == "xz" ? "xz-utils" : command[0])}");
        using var process = Process.Start(new ProcessStartInfo(program, command[1..]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true })!;
        try
        {
            var kernel = new byte[size];
            var errors = process.StandardError.ReadToEndAsync(cancellationToken);
            var writing = WriteAsync(process.StandardInput.BaseStream, packed, cancellationToken);
            var read = await process.StandardOutput.BaseStream.ReadAtLeastAsync(kernel, size, throwOnEndOfStream: false, cancellationToken);
            var more = await process.StandardOutput.BaseStream.ReadAsync(new byte[1], cancellationToken);
            await writing;
            return read == size && more == 0 ? kernel : throw new InvalidDataException($"{command[0]} could not unpack the kernel: {(await errors).Trim()}");
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }
        }
    }

    private static async Task WriteAsync(Stream input, ReadOnlyMemory<byte> packed, CancellationToken cancellationToken)
    {
        try
        {
            await input.WriteAsync(packed, cancellationToken);
            await input.DisposeAsync();
        }
        catch (IOException)
        {
            // It has ended before it has read everything; what it has said is told.
        }
    }
}
