using Sandbox.Abstractions;

namespace Sandbox.Gateway.Preview;

/// <summary>Where a forwarded request goes.</summary>
/// <param name="SessionId">Session.</param>
/// <param name="Port">Port in its guest.</param>
/// <param name="Tenant">For whom the connection is opened.</param>
/// <param name="Generation">The session's generation: connections of an earlier one are dead.</param>
internal sealed record PortTarget(string SessionId, int Port, string Tenant, long Generation)
{
    public static readonly HttpRequestOptionsKey<PortTarget> Key = new("sandbox.port-target");

    /// <summary>A name that exists nowhere: limits on connections count by it, and two sessions, ports or generations never share one.</summary>
    public string Address => $"http://p{Port}-g{Generation}.{SessionId.Replace('_', '-')}.sandbox.invalid";

    /// <summary>Opens a connection. The session is known to run by now, so nobody is woken for it.</summary>
    /// <exception cref="SandboxException">It cannot be opened.</exception>
    public async Task<Stream> ConnectAsync(IGrainFactory grains, CancellationToken cancellationToken)
    {
        TenantContext.Set(Tenant);
        WakeContext.Set(false);
        var opening = grains.GetGrain<ISessionPorts>(SessionId).OpenPortAsync(Port);
        try
        {
            var key = await opening.WaitAsync(cancellationToken);
            return new PortStream(grains.GetGrain<IPortGrain>(key), Tenant);
        }
        catch (OperationCanceledException)
        {
            // What is opened all the same has nobody to use it.
            _ = opening.ContinueWith(
                async t => await new PortStream(grains.GetGrain<IPortGrain>(await t), Tenant).DisposeAsync(),
                CancellationToken.None, TaskContinuationOptions.OnlyOnRanToCompletion, TaskScheduler.Default);
            throw;
        }
    }
}
