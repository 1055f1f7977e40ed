using Orleans.Concurrency;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Tests.Harness;

/// <content>Artifacts: those whose size the world knows, under their ids.</content>
internal sealed partial class FakeSession : ISessionArtifacts
{
    public Task<ArtifactEntry> FindArtifactAsync(string artifactId)
    {
        Mine();
        return world.FileSizes.TryGetValue(artifactId, out var size)
            ? Task.FromResult(new ArtifactEntry("plot 1.png", world.ArtifactType, size, "abc"))
            : throw SandboxException.NotFound($"There is no artifact {artifactId}.");
    }

    public Task<Immutable<byte[]>> ReadArtifactAsync(string artifactId, long offset) => ReadChunkAsync(artifactId, offset, ISessionArtifacts.ChunkBytes);
}
