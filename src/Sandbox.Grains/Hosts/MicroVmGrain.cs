using Orleans.Concurrency;
using Orleans.Placement;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Placement;
using Sandbox.Grains.Hosts.Runtime;

namespace Sandbox.Grains.Hosts;

/// <summary>One microVM, made callable from the cluster. Holds nothing: the runtime does.</summary>
[HostPinned, Immovable]
internal sealed class MicroVmGrain(HostRuntime runtime) : Grain, IMicroVmGrain
{
    private string _vmId = "";

    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        _vmId = HostPinnedPlacement.NameOf(this.GetPrimaryKeyString());
        return Task.CompletedTask;
    }

    public Task<MicroVmStarted> StartAsync(MicroVmStart start) => runtime.StartMachineAsync(_vmId, start);

    public Task<bool> IsAliveAsync(long generation) => Task.FromResult(runtime.IsAlive(_vmId, generation));

    public Task StopAsync(long generation, string reason) => runtime.StopMachineAsync(_vmId, generation, reason);

    public Task<MicroVmSaved> SaveAsync(long generation, MicroVmSave save) => runtime.SaveMachineAsync(_vmId, generation, save);

    public Task ContinueAsync(long generation, string snapshotId) => runtime.ContinueMachineAsync(_vmId, generation, snapshotId);

    public Task DiscardAsync(string sessionId, long generation, string reason) => runtime.DiscardMachineAsync(sessionId, _vmId, generation, reason);

    public Task<EgressMark> SetEgressAsync(long generation, MicroVmEgress egress) => runtime.SetEgressAsync(_vmId, generation, egress);

    public Task<EgressMark> GetEgressAsync(long generation) => runtime.GetEgressAsync(_vmId, generation);

    public Task<int> StartExecutionAsync(long generation, string executionId, ExecutionRequest request) =>
        runtime.StartExecutionAsync(_vmId, generation, executionId, request);

    public Task WriteStdinAsync(long generation, string executionId, ReadOnlyMemory<byte> data, bool endOfFile) =>
        runtime.WriteStdinAsync(_vmId, generation, executionId, data, endOfFile);

    public Task SignalAsync(long generation, string executionId, int signal) => runtime.SignalAsync(_vmId, generation, executionId, signal);

    public Task ResizeAsync(long generation, string executionId, TerminalSize size) => runtime.ResizeAsync(_vmId, generation, executionId, size);

    public async Task<Immutable<byte[]>> RequestAsync(long generation, Immutable<byte[]> request) =>
        new(await runtime.RequestAsync(_vmId, generation, request.Value));

    public Task<string> OpenPortAsync(long generation, int port) => runtime.OpenPortAsync(_vmId, generation, port);

    public Task<long> WatchAsync(long generation, string path, bool recursive, string? user) => runtime.WatchDirectoryAsync(_vmId, generation, path, recursive, user);

    public Task<FileEventPage> ReadWatchAsync(long generation, long watch, TimeSpan wait) => runtime.ReadWatchAsync(_vmId, generation, watch, wait);

    public Task UnwatchAsync(long generation, long watch) => runtime.UnwatchAsync(_vmId, generation, watch);
}
