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

    /// <summary>
    /// The beginning of what a body holds: one byte more than the limit where there is more. <see langword="null"/>: that cannot be told, because its encoding is not known, or it is not what it says it is.
    /// </summary>
    /// <param name="encoding">Of <c>Content-Encoding</c>.</param>
    /// <param name="body">The body, or its first part.</param>
    /// <param name="isWhole">Whether it is all of it. Otherwise it may end anywhere.</param>
    /// <param name="limit">Most bytes to be made.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public static async Task<byte[]?> ReadAsync(string encoding, ReadOnlyMemory<byte> body, bool isWhole, int limit, CancellationToken cancellationToken)
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
        catch (Exception e) when (e is InvalidDataException or IOException or InvalidOperationException)
        {
            if (isWhole)
            {
                return null;
            }
        }

        // Something that was sent and holds nothing is not compressed: whoever gets it may take it for what it is.
        return length == 0 && body.Length > 0 && !IsEmptyStream(body.Length) ? null : buffer[..length];
    }

    /// <summary>What nothing becomes when it is compressed: a header and a trailer.</summary>
    private static bool IsEmptyStream(int length) => length <= 32;
}
