using System.Buffers.Binary;
using System.IO.Compression;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Connect;

/// <summary>The envelope of messages in a stream: a byte of flags, the length as 32 bits with the highest byte first, the message.</summary>
internal static class ConnectFrames
{
    /// <summary>Largest message, also after it is uncompressed.</summary>
    public const int MaxMessageBytes = 4 << 20;

    /// <summary>The flag of a message that is compressed.</summary>
    public const byte Compressed = 1;

    /// <summary>The flag of the last frame, which carries an error or none.</summary>
    public const byte End = 2;

    private const int HeaderBytes = 5;

    /// <summary>Reads the next message; <see langword="null"/> at the end of the stream.</summary>
    /// <exception cref="SandboxException">The stream is no sequence of frames, or a message too large.</exception>
    public static async ValueTask<byte[]?> ReadAsync(Stream body, bool gzip, CancellationToken cancellationToken)
    {
        var header = new byte[HeaderBytes];
        var n = await body.ReadAtLeastAsync(header, HeaderBytes, throwOnEndOfStream: false, cancellationToken);
        if (n == 0)
        {
            return null;
        }

        if (n < HeaderBytes)
        {
            throw Broken("it ends inside a frame's header");
        }

        var flags = header[0];
        if ((flags & ~(Compressed | End)) != 0 || ((flags & Compressed) != 0 && !gzip))
        {
            throw Broken(flags == Compressed ? "a message is compressed, but no Connect-Content-Encoding says how" : $"a frame has the flags {flags}");
        }

        var length = BinaryPrimitives.ReadUInt32BigEndian(header.AsSpan(1));
        if (length > MaxMessageBytes)
        {
            throw TooLarge();
        }

        var payload = new byte[length];
        if (await body.ReadAtLeastAsync(payload, payload.Length, throwOnEndOfStream: false, cancellationToken) < payload.Length)
        {
            throw Broken("it ends inside a message");
        }

        if ((flags & End) != 0)
        {
            return null;
        }

        return (flags & Compressed) != 0 ? await InflateAsync(new MemoryStream(payload), cancellationToken) : payload;
    }

    /// <summary>A frame with a message.</summary>
    public static byte[] Pack(byte flags, ReadOnlySpan<byte> payload)
    {
        var frame = new byte[HeaderBytes + payload.Length];
        frame[0] = flags;
        BinaryPrimitives.WriteUInt32BigEndian(frame.AsSpan(1), (uint)payload.Length);
        payload.CopyTo(frame.AsSpan(HeaderBytes));
        return frame;
    }

    /// <summary>Reads all of a body that is one message.</summary>
    /// <exception cref="SandboxException">It is too large, or not what it says it is.</exception>
    public static async Task<byte[]> ReadAllAsync(Stream body, bool gzip, CancellationToken cancellationToken)
    {
        if (gzip)
        {
            return await InflateAsync(body, cancellationToken);
        }

        using var all = new MemoryStream();
        await CopyAsync(body, all, cancellationToken);
        return all.ToArray();
    }

    private static async Task<byte[]> InflateAsync(Stream body, CancellationToken cancellationToken)
    {
        using var all = new MemoryStream();
        await using var inflated = new GZipStream(body, CompressionMode.Decompress, leaveOpen: true);
        try
        {
            await CopyAsync(inflated, all, cancellationToken);
        }
        catch (InvalidDataException e)
        {
            throw new SandboxException(SandboxErrorCode.InvalidArgument, "A message is not compressed with gzip as it says: " + e.Message);
        }

        return all.ToArray();
    }

    private static async Task CopyAsync(Stream from, MemoryStream to, CancellationToken cancellationToken)
    {
        var buffer = new byte[16 * 1024];
        for (int n; (n = await from.ReadAsync(buffer, cancellationToken)) > 0;)
        {
            if (to.Length + n > MaxMessageBytes)
            {
                throw TooLarge();
            }

            to.Write(buffer, 0, n);
        }
    }

    private static SandboxException Broken(string how) => new(SandboxErrorCode.InvalidArgument, $"The body is no stream of messages: {how}.");

    private static SandboxException TooLarge() => new(SandboxErrorCode.TooLarge, $"A message has at most {MaxMessageBytes} bytes.");
}
