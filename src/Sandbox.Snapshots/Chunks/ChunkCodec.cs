using System.Security.Cryptography;
using ZstdSharp;

namespace Sandbox.Snapshots.Chunks;

/// <summary>
/// A piece of data on its way into the store and back: compressed (zstd), then encrypted and authenticated (AES-256-GCM, a random nonce each; one key is good for 2^32 chunks, which is 500 TB).
/// A chunk is named by a keyed hash of its content, so that a name tells nothing to who has no key, and the name is bound into the authentication: a chunk put in the place of another is refused.
/// Not safe for concurrent use.
/// </summary>
internal sealed class ChunkCodec(byte[] tenantKey) : IDisposable
{
    public const int IdBytes = 32;

    /// <summary>Longest content in bytes. A manifest is the longest there is: about 60 bytes for each 128 KiB of memory and 2 MiB of disk, 60 MiB for the largest machine.</summary>
    public const int MaxContent = 256 << 20;

    private const int NonceBytes = 12;
    private const int TagBytes = 16;

    /// <summary>Fast, and within some percent of the slow levels on pages of memory.</summary>
    private const int Level = 1;

    private readonly AesGcm _cipher = new(HKDF.DeriveKey(HashAlgorithmName.SHA256, tenantKey, 32, info: "chunk"u8.ToArray()), TagBytes);
    private readonly byte[] _nameKey = HKDF.DeriveKey(HashAlgorithmName.SHA256, tenantKey, 32, info: "name"u8.ToArray());
    private readonly Compressor _compressor = new(Level);
    private readonly Decompressor _decompressor = new();

    /// <summary>The name of a content.</summary>
    public byte[] IdOf(ReadOnlySpan<byte> content) => HMACSHA256.HashData(_nameKey, content);

    /// <summary>The stored form.</summary>
    public byte[] Encode(ReadOnlySpan<byte> content, ReadOnlySpan<byte> boundTo)
    {
        // Refused now rather than when it is needed again.
        ArgumentOutOfRangeException.ThrowIfGreaterThan(content.Length, MaxContent);
        var compressed = _compressor.Wrap(content);
        var sealedChunk = new byte[NonceBytes + TagBytes + compressed.Length];
        RandomNumberGenerator.Fill(sealedChunk.AsSpan(0, NonceBytes));
        _cipher.Encrypt(sealedChunk.AsSpan(0, NonceBytes), compressed, sealedChunk.AsSpan(NonceBytes + TagBytes), sealedChunk.AsSpan(NonceBytes, TagBytes), boundTo);
        return sealedChunk;
    }

    /// <summary>The content, or <see langword="null"/> where the stored form was changed, belongs elsewhere or is under another key.</summary>
    public byte[]? Decode(ReadOnlySpan<byte> stored, ReadOnlySpan<byte> boundTo)
    {
        if (stored.Length < NonceBytes + TagBytes)
        {
            return null;
        }

        var compressed = new byte[stored.Length - NonceBytes - TagBytes];
        try
        {
            _cipher.Decrypt(stored[..NonceBytes], stored[(NonceBytes + TagBytes)..], stored.Slice(NonceBytes, TagBytes), compressed, boundTo);
            return _decompressor.Unwrap(compressed, MaxContent).ToArray();
        }
        catch (Exception e) when (e is AuthenticationTagMismatchException or ZstdException)
        {
            return null;
        }
    }

    public void Dispose()
    {
        _cipher.Dispose();
        _compressor.Dispose();
        _decompressor.Dispose();
    }
}
