using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Sandbox.Snapshots.Artifacts;

/// <summary>
/// How an artifact lies in the store: a header of fixed size, then chunks of fixed size, the last one shorter; each sealed by AES-256-GCM under a key that only
/// this artifact has, with its number as nonce. A key is used for one write, so no nonce is used twice; a chunk in the wrong place, or of another artifact, does
/// not open. The header names the size, so that a lost end is noticed by who reads to it.
/// </summary>
internal sealed class ArtifactSeal : IDisposable
{
    public const int ChunkBytes = 256 * 1024;
    public const int SealedChunkBytes = ChunkBytes + TagBytes;
    public const int HeaderBytes = PlainHeaderBytes + TagBytes;

    private const int PlainHeaderBytes = 1024;
    private const int TagBytes = 16;
    private const int NonceBytes = 12;
    private readonly AesGcm _cipher;

    /// <param name="tenantKey">The tenant's key.</param>
    /// <param name="name">Names the artifact among the tenant's.</param>
    public ArtifactSeal(byte[] tenantKey, string name) =>
        _cipher = new AesGcm(HKDF.DeriveKey(HashAlgorithmName.SHA256, tenantKey, 32, info: Encoding.UTF8.GetBytes("sandbox artifact\0" + name)), TagBytes);

    /// <summary>Where a chunk begins in the blob.</summary>
    public static long PlaceOf(long chunk) => HeaderBytes + (chunk * SealedChunkBytes);

    public byte[] Close(ArtifactInfo info, ReadOnlySpan<byte> data)
    {
        var chunks = (data.Length + ChunkBytes - 1) / ChunkBytes;
        var blob = new byte[HeaderBytes + data.Length + (chunks * TagBytes)];
        Span<byte> header = stackalloc byte[PlainHeaderBytes];
        var json = JsonSerializer.SerializeToUtf8Bytes(info);
        if (json.Length > PlainHeaderBytes - 4)
        {
            throw new ArgumentException("The description of the artifact is too long.", nameof(info));
        }

        BinaryPrimitives.WriteInt32LittleEndian(header, json.Length);
        json.CopyTo(header[4..]);
        Close(-1, header, blob);
        for (var chunk = 0; chunk < chunks; chunk++)
        {
            var part = data[(chunk * ChunkBytes)..];
            Close(chunk, part[..Math.Min(part.Length, ChunkBytes)], blob.AsSpan((int)PlaceOf(chunk)));
        }

        return blob;
    }

    /// <exception cref="SnapshotException">It is not what was written.</exception>
    public ArtifactInfo OpenHeader(byte[] sealedHeader)
    {
        var header = sealedHeader.Length == HeaderBytes ? Open(-1, sealedHeader) : throw Damaged(null);
        try
        {
            return JsonSerializer.Deserialize<ArtifactInfo>(header.AsSpan(4, BinaryPrimitives.ReadInt32LittleEndian(header)))!;
        }
        catch (Exception e) when (e is JsonException or ArgumentException)
        {
            throw Damaged(e);
        }
    }

    /// <exception cref="SnapshotException">It is not what was written.</exception>
    public byte[] OpenChunk(long chunk, byte[] sealedChunk) => sealedChunk.Length > TagBytes ? Open(chunk, sealedChunk) : throw Damaged(null);

    public void Dispose() => _cipher.Dispose();

    private static SnapshotException Damaged(Exception? e) => new(SnapshotErrorKind.Corrupt, "The artifact is damaged, or its key is another one.", e);

    private static void WriteNonce(Span<byte> nonce, long chunk) => BinaryPrimitives.WriteInt64LittleEndian(nonce, chunk);

    private void Close(long chunk, ReadOnlySpan<byte> plain, Span<byte> target)
    {
        Span<byte> nonce = stackalloc byte[NonceBytes];
        nonce.Clear();
        WriteNonce(nonce, chunk);
        _cipher.Encrypt(nonce, plain, target[..plain.Length], target.Slice(plain.Length, TagBytes));
    }

    private byte[] Open(long chunk, ReadOnlySpan<byte> closed)
    {
        Span<byte> nonce = stackalloc byte[NonceBytes];
        nonce.Clear();
        WriteNonce(nonce, chunk);
        var plain = new byte[closed.Length - TagBytes];
        try
        {
            _cipher.Decrypt(nonce, closed[..plain.Length], closed[plain.Length..], plain);
            return plain;
        }
        catch (AuthenticationTagMismatchException e)
        {
            throw Damaged(e);
        }
    }
}
