namespace Sandbox.Isolation.Oci;

/// <content>What a host gives back when it is stopped in order.</content>
public sealed partial class OciBackend : IAsyncDisposable
{
    /// <summary>Unmounts the roots of images that no live container uses.</summary>
    public ValueTask DisposeAsync() => new(_roots.ReleaseAsync());
}
