using System.Security.Cryptography;
using System.Text;

namespace Sandbox.Snapshots.Keys;

/// <summary>
/// Encrypts small things of a tenant (AES-256-GCM) for storage and for the way between silos. Each purpose has a key of its own, derived from the tenant's; a name is bound to what is sealed, so that one sealed thing
/// cannot be passed off as another. Safe for concurrent use.
/// </summary>
public sealed class TenantSeal(IKeyProvider keys)
{
    private const byte Format = 1;
    private const int NonceBytes = 12;
    private const int TagBytes = 16;

    /// <summary>Encrypts.</summary>
    /// <param name="tenant">Whose.</param>
    /// <param name="purpose">What for, for example <c>secret</c>.</param>
    /// <param name="name">What it is, bound to the result.</param>
    /// <param name="value">The value.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Unavailable"/>: the tenant's key cannot be had now.</exception>
    public async Task<byte[]> SealAsync(string tenant, string purpose, string name, ReadOnlyMemory<byte> value, CancellationToken cancellationToken)
    {
        using var aes = await CipherAsync(tenant, purpose, cancellationToken);
        var result = new byte[1 + NonceBytes + TagBytes + value.Length];
        result[0] = Format;
        var nonce = result.AsSpan(1, NonceBytes);
        RandomNumberGenerator.Fill(nonce);
        aes.Encrypt(nonce, value.Span, result.AsSpan(1 + NonceBytes + TagBytes), result.AsSpan(1 + NonceBytes, TagBytes), Encoding.UTF8.GetBytes(name));
        return result;
    }

    /// <summary>Decrypts what <see cref="SealAsync"/> made for the same tenant, purpose and name.</summary>
    /// <exception cref="SnapshotException">
    /// <see cref="SnapshotErrorKind.Corrupt"/>: it was made for something else or under another master key, or was changed. <see cref="SnapshotErrorKind.Unavailable"/>: the tenant's key cannot be had now.
    /// </exception>
    public async Task<byte[]> OpenAsync(string tenant, string purpose, string name, ReadOnlyMemory<byte> sealedValue, CancellationToken cancellationToken)
    {
        if (sealedValue.Length < 1 + NonceBytes + TagBytes || sealedValue.Span[0] != Format)
        {
            throw NotReadable(tenant, purpose, name);
        }

        using var aes = await CipherAsync(tenant, purpose, cancellationToken);
        var value = new byte[sealedValue.Length - 1 - NonceBytes - TagBytes];
        try
        {
            aes.Decrypt(sealedValue.Span.Slice(1, NonceBytes), sealedValue.Span[(1 + NonceBytes + TagBytes)..], sealedValue.Span.Slice(1 + NonceBytes, TagBytes), value, Encoding.UTF8.GetBytes(name));
            return value;
        }
        catch (AuthenticationTagMismatchException)
        {
            throw NotReadable(tenant, purpose, name);
        }
    }

    private async Task<AesGcm> CipherAsync(string tenant, string purpose, CancellationToken cancellationToken)
    {
        var key = HKDF.DeriveKey(HashAlgorithmName.SHA256, await keys.GetAsync(tenant, cancellationToken), IKeyProvider.KeyBytes, info: Encoding.UTF8.GetBytes("sandbox seal\0" + purpose));
        try
        {
            return new AesGcm(key, TagBytes);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(key);
        }
    }

    private static SnapshotException NotReadable(string tenant, string purpose, string name) =>
        new(SnapshotErrorKind.Corrupt, $"The {purpose} '{name}' of tenant {tenant} cannot be decrypted: it was changed, or stored under another master key. Store it again.");
}
