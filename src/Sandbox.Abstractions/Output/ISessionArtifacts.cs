using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>Files that a session's executions made, as the host has kept them. Key: session id. They are there, whether its microVM runs or not, until the session ends.</summary>
[Alias("sandbox.ISessionArtifacts")]
public interface ISessionArtifacts : IGrainWithStringKey
{
    /// <summary>Bytes of one chunk.</summary>
    const int ChunkBytes = 256 * 1024;

    /// <summary>What is kept under an id.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>: there is no such artifact (any more); <see cref="SandboxErrorCode.Unavailable"/>: the store cannot be reached.</exception>
    [Alias("find-artifact"), AlwaysInterleave]
    Task<ArtifactEntry> FindArtifactAsync(string artifactId);

    /// <summary>The chunk that begins at an offset, which is a multiple of <see cref="ChunkBytes"/> below the artifact's size. Only the last one is shorter.</summary>
    /// <exception cref="SandboxException">As <see cref="FindArtifactAsync"/>; <see cref="SandboxErrorCode.InvalidArgument"/>: no such offset.</exception>
    [Alias("read-artifact"), AlwaysInterleave]
    Task<Immutable<byte[]>> ReadArtifactAsync(string artifactId, long offset);
}

/// <summary>An artifact in the store.</summary>
/// <param name="Name">A name for a download, of harmless characters.</param>
/// <param name="MimeType">What its bytes say it is.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Sha256">In lower-case hexadecimal.</param>
[GenerateSerializer, Alias("sandbox.artifact-entry"), Immutable]
public sealed record ArtifactEntry([property: Id(0)] string Name, [property: Id(1)] string MimeType, [property: Id(2)] long Size, [property: Id(3)] string Sha256);
