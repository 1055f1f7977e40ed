using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions;

/// <summary>Watching directories in the guest.</summary>
internal sealed partial class SessionGrain
{
    public Task<string> WatchAsync(string path, bool recursive, string? user) => throw new SandboxException(SandboxErrorCode.Unsupported, "Watches are not built yet.");

    public Task<FileEventPage> ReadWatchAsync(string watchId, TimeSpan wait) => throw new SandboxException(SandboxErrorCode.Unsupported, "Watches are not built yet.");

    public Task UnwatchAsync(string watchId) => throw new SandboxException(SandboxErrorCode.Unsupported, "Watches are not built yet.");
}
