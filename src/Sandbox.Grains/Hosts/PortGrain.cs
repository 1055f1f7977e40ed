using Orleans.Concurrency;
using Orleans.Placement;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Connections;
using Sandbox.Grains.Hosts.Placement;
using Sandbox.Grains.Hosts.Runtime;
using Sandbox.Grains.Tenants;

namespace Sandbox.Grains.Hosts;

/// <summary>One connection into a guest, made callable from the cluster. Key: <c>host/session/connection</c>. Holds nothing: the runtime does.</summary>
[HostPinned, Immovable]
internal sealed class PortGrain(HostRuntime runtime) : Grain, IPortGrain, ITenantOwned
{
    private string _session = "";
    private string _connection = "";
    private string? _tenant;

    public string? Tenant => _tenant ??= runtime.TenantOf(_session);

    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        if (this.GetPrimaryKeyString().Split('/') is [_, var session, var connection] && SandboxIds.IsSession(session) && SandboxIds.IsConnection(connection))
        {
            (_session, _connection) = (session, connection);
        }

        return Task.CompletedTask;
    }

    public async Task<PortChunk> ReadAsync(TimeSpan wait) =>
        runtime.FindPort(_session, _connection) is { } port ? await port.ReadAsync(wait) : new PortChunk([], false, true);

    public Task WriteAsync(Immutable<byte[]> data, bool end)
    {
        if (data.Value is null || data.Value.Length > IPortGrain.MaxChunkBytes)
        {
            throw new SandboxException(SandboxErrorCode.TooLarge, $"A chunk has at most {IPortGrain.MaxChunkBytes} bytes.", "data");
        }

        return Port().WriteAsync(data.Value, end);
    }

    public Task CloseAsync()
    {
        // Its grain is of no more use.
        DeactivateOnIdle();
        return runtime.ClosePortAsync(_session, _connection);
    }

    private LivePort Port() => runtime.FindPort(_session, _connection) ?? throw SandboxException.NotFound($"Connection {_connection} has ended, or never was.");
}
