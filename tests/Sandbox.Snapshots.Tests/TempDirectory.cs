namespace Sandbox.Snapshots.Tests;

internal sealed class TempDirectory : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("sandbox-snapshots-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
