using Orleans.Concurrency;
using Sandbox.Abstractions;
using Sandbox.Snapshots;
using Sandbox.Snapshots.Artifacts;

namespace Sandbox.Grains.Sessions;

/// <summary>Artifacts: read from the store, which needs neither the machine nor its host.</summary>
internal sealed partial class SessionGrain
{
    public async Task<ArtifactEntry> FindArtifactAsync(string artifactId)
    {
        var info = await AskArtifactsAsync(artifactId, store => store.FindAsync(Document.Tenant, Id, artifactId, CancellationToken.None));
        return new ArtifactEntry(info.Name, info.MimeType, info.Size, info.Sha256);
    }

    public async Task<Immutable<byte[]>> ReadArtifactAsync(string artifactId, long offset)
    {
        if (offset is < 0 or > ArtifactStore.MaxBytes || offset % ISessionArtifacts.ChunkBytes != 0)
        {
            throw SandboxException.Invalid("offset", $"{offset} is not where a chunk of {ISessionArtifacts.ChunkBytes} bytes begins.");
        }

        return new(await AskArtifactsAsync(artifactId, store => store.ReadAsync(Document.Tenant, Id, artifactId, offset, CancellationToken.None)));
    }

    private async Task DropArtifactsAsync()
    {
        if (_artifacts is not null)
        {
            await _artifacts.DeleteSessionAsync(Document.Tenant, Id, CancellationToken.None);
        }
    }

    private async Task<T> AskArtifactsAsync<T>(string artifactId, Func<ArtifactStore, Task<T?>> ask)
        where T : class
    {
        RequireExists();
        if (!SandboxIds.IsArtifact(artifactId) || _artifacts is null)
        {
            throw Missing(artifactId);
        }

        try
        {
            return await ask(_artifacts) ?? throw Missing(artifactId);
        }
        catch (SnapshotException e)
        {
            throw e.Kind == SnapshotErrorKind.Corrupt ? new SandboxException(SandboxErrorCode.Internal, e.Message) : SandboxException.Unavailable(e.Message);
        }
    }

    private SandboxException Missing(string artifactId) => SandboxException.NotFound(
        $"There is no artifact '{(SandboxIds.IsArtifact(artifactId) ? artifactId : "?")}' in session '{Id}': artifacts go with the session whose execution made them.");
}
