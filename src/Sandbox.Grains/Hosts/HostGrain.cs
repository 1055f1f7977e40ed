using Orleans.Placement;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Placement;
using Sandbox.Grains.Hosts.Runtime;

namespace Sandbox.Grains.Hosts;

/// <summary>The host's runtime, made callable from the cluster.</summary>
[HostPinned, Immovable]
internal sealed class HostGrain(HostRuntime runtime) : Grain, IHostGrain
{
    public Task<HostReport> GetAsync() => Task.FromResult(runtime.Report());

    public Task<bool> TryReserveAsync(HostLease lease) => runtime.TryReserveAsync(lease);

    public Task ReleaseAsync(string sessionId, long generation)
    {
        runtime.Release(sessionId, generation);
        return Task.CompletedTask;
    }

    public Task ForgetSessionAsync(string sessionId) => runtime.ForgetSessionAsync(sessionId);

    public Task<EgressPage> ReadEgressLogAsync(string sessionId, long from, int max, TimeSpan wait) => runtime.ReadEgressLogAsync(sessionId, from, max, wait);

    public Task<ExecutionExit?> SealExecutionAsync(string sessionId, string executionId, ExecutionExit exit) =>
        Task.FromResult(runtime.Seal(sessionId, executionId, exit));
}
