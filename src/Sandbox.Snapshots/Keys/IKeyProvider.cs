namespace Sandbox.Snapshots.Keys;

/// <summary>Where the keys that snapshots are encrypted under come from: one per tenant, so that no tenant's key opens another's data.</summary>
public interface IKeyProvider
{
    /// <summary>The tenant's key: <see cref="KeyBytes"/> bytes, always the same for the same tenant.</summary>
    /// <exception cref="SnapshotException"><see cref="SnapshotErrorKind.Unavailable"/>: the key cannot be had now.</exception>
    ValueTask<byte[]> GetAsync(string tenant, CancellationToken cancellationToken);

    /// <summary>Length of a key: AES-256.</summary>
    const int KeyBytes = 32;
}
