using Sandbox.Abstractions;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Saving machines into the snapshot store, and bringing them back.</summary>
internal sealed partial class HostRuntime
{
    public Task<MicroVmSaved> SaveMachineAsync(string vmId, long generation, MicroVmSave save) =>
        throw new SandboxException(SandboxErrorCode.Unsupported, $"Host {HostId} cannot save microVM {vmId} yet.");

    public Task ContinueMachineAsync(string vmId, long generation, string snapshotId) =>
        throw new SandboxException(SandboxErrorCode.Unsupported, $"Host {HostId} cannot save microVM {vmId} yet.");
}
