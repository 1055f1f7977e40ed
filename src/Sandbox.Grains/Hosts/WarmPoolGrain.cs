using Orleans.Placement;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Placement;
using Sandbox.Grains.Hosts.Runtime;

namespace Sandbox.Grains.Hosts;

/// <summary>One template's warm pool on one host, made callable from the cluster. Holds nothing: the runtime does.</summary>
[HostPinned, Immovable]
internal sealed class WarmPoolGrain(HostRuntime runtime) : Grain, IWarmPoolGrain
{
    public Task<WarmPoolReport> GetAsync() => Task.FromResult(runtime.PoolReport(HostPinnedPlacement.NameOf(this.GetPrimaryKeyString())));
}
