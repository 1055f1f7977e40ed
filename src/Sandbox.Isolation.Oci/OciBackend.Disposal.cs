namespace Sandbox.Isolation.Oci;

/// <content>What a host gives back when it is stopped in order.</content>
public sealed partial class OciBackend : IAsyncDisposable
{
    /// <summary>Unmounts the roots of images that no live container uses, and removes the networks that are kept ready.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_networks is not null)
        {
            await _networks.DisposeAsync();
        }

        await _roots.ReleaseAsync();
    }
}
