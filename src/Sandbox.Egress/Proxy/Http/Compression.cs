using System.IO.Compression;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>Encodings of bodies that can be looked into.</summary>
internal static class Compression
{
    /// <summary>Whether a body is as it is.</summary>
    public static bool IsNone(string? encoding) => string.IsNullOrWhiteSpace(encoding) || encoding.Trim().Equals("identity", StringComparison.OrdinalIgnoreCase);

    /// <summary>A stream of what a body holds, read piece by piece; <see langword="null"/> where the encoding is not known, or is more than one.</summary>
    public static Stream? Open(string encoding, Stream body) => encoding.Trim().ToLowerInvariant() switch
    {
        "gzip" or "x-gzip" => new GZipStream(body, CompressionMode.Decompress),
        "br" => new BrotliStream(body, CompressionMode.Decompress),
        "deflate" => new ZLibStream(body, CompressionMode.Decompress),
        _ => null,
    };

    /// <summary>The beginning of what a body holds, as far as it can be read: one byte more than the limit where there is more. <see langword="null"/>: its encoding is not known.</summary>
    public static async Task<byte[]?> ReadAsync(string encoding, ReadOnlyMemory<byte> body, int limit, CancellationToken cancellationToken)
    {
        using var compressed = new MemoryStream(body.ToArray(), writable: false);
        await using var plain = Open(encoding, compressed);
        if (plain is null)
        {
            return null;
        }

        // One byte more than is wanted tells that there is more. What a bomb would become beyond that is never made.
        var buffer = new byte[limit + 1];
        var length = 0;
        try
        {
            int count;
            while (length < buffer.Length && (count = await plain.ReadAsync(buffer.AsMemory(length), cancellationToken)) > 0)
            {
                length += count;
            }
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            // It was cut, or is no such thing; what came out until then is what there is to see.
        }

        return buffer[..length];
    }
}
