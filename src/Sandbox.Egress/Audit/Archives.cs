namespace Sandbox.Egress.Audit;

/// <summary>Tells archives by how they begin.</summary>
internal static class Archives
{
    /// <summary>Least bytes of an upload that matters: small ones hold what other patterns look for, or nothing worth it.</summary>
    public const int MinBytes = 32 * 1024;

    private const int MaxParts = 32;

    /// <summary>What kind of archive a body is, or a part of it that a form uploads.</summary>
    public static string? KindOf(ReadOnlySpan<byte> body)
    {
        if (Begins(body) is { } kind)
        {
            return kind;
        }

        if (!body.StartsWith("--"u8))
        {
            return null;
        }

        for (var i = 0; i < MaxParts; i++)
        {
            var end = body.IndexOf("\r\n\r\n"u8);
            if (end < 0)
            {
                return null;
            }

            body = body[(end + 4)..];
            if (Begins(body) is { } inner)
            {
                return inner;
            }
        }

        return null;
    }

    private static string? Begins(ReadOnlySpan<byte> body) =>
        body.StartsWith("PK\x03\x04"u8) ? "zip"
        : body.StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b]) ? "gzip"
        : body.StartsWith((ReadOnlySpan<byte>)[0x28, 0xb5, 0x2f, 0xfd]) ? "zstd"
        : body.StartsWith((ReadOnlySpan<byte>)[0xfd, .. "7zXZ\0"u8]) ? "xz"
        : body.StartsWith((ReadOnlySpan<byte>)[.. "7z"u8, 0xbc, 0xaf, 0x27, 0x1c]) ? "7z"
        : body.StartsWith("BZh"u8) && body.Length > 10 && body[4..].StartsWith((ReadOnlySpan<byte>)[0x31, 0x41, 0x59, 0x26, 0x53, 0x59]) ? "bzip2"
        : body.StartsWith("Rar!\x1a\x07"u8) ? "rar"
        : body.Length > 262 && body[257..].StartsWith("ustar"u8) ? "tar"
        : null;
}
