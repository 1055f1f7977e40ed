using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <content>Files that executions made.</content>
public sealed partial class SandboxSession
{
    /// <summary>Copies a stored artifact (see <see cref="ArtifactData.Id"/>) into a stream, and says what it is. Neither the machine nor its host is needed for it.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>: there is none (any more).</exception>
    public async Task<ArtifactEntry> DownloadArtifactAsync(string artifactId, Stream target, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(target);
        var calls = _grains.GetGrain<ISessionArtifacts>(Id);
        var entry = await Caller.RetryAsync(() => calls.FindArtifactAsync(artifactId), cancellationToken);
        for (long offset = 0; offset < entry.Size; offset += ISessionArtifacts.ChunkBytes)
        {
            var at = offset;
            await target.WriteAsync((await Caller.RetryAsync(() => calls.ReadArtifactAsync(artifactId, at), cancellationToken)).Value, cancellationToken);
        }

        return entry;
    }
}
