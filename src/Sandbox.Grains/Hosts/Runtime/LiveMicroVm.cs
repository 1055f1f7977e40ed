using System.Collections.Concurrent;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Connections;
using Sandbox.Grains.Hosts.Egress;
using Sandbox.Grains.Hosts.Executions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>One microVM of this host, from the moment its start begins until everything it held is gone.</summary>
internal sealed class LiveMicroVm(string vmId, MicroVmStart start)
{
    private readonly TaskCompletionSource<string> _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private string? _stopReason;

    public string VmId => vmId;

    public MicroVmStart Start => start;

    /// <summary>Id of the warm machine that serves it, if it was claimed from a pool: what its process and directory are named after.</summary>
    public string? ClaimedVmId { get; set; }

    public string SessionId => start.SessionId;

    public long Generation => start.Generation;

    /// <summary>Whose the devices are that it has.</summary>
    public DeviceOwner DeviceOwnerOn(string hostId) => new(SessionId, Generation, vmId, hostId);

    /// <summary>Cancels the start, or tells the watcher to kill.</summary>
    public CancellationTokenSource Stopping { get; } = new();

    /// <summary>The start under way or done.</summary>
    public Task<MicroVmStarted> Started { get; set; } = null!;

    /// <summary>The machine, once it runs.</summary>
    public IMicroVm? Machine { get; set; }

    /// <summary>Its door, once it has one.</summary>
    public LiveEgress? Egress { get; set; }

    /// <summary>One change of its egress at a time.</summary>
    public SemaphoreSlim EgressTurn { get; } = new(1, 1);

    /// <summary>The authority that the guest was told to trust.</summary>
    public string? TrustedAuthority { get; set; }

    /// <summary>Completes when all is removed.</summary>
    public Task Removed { get; set; } = Task.CompletedTask;

    public ConcurrentDictionary<string, ExecutionPump> Executions { get; } = new(StringComparer.Ordinal);

    /// <summary>Connections to its ports, and watches.</summary>
    public ConnectionTable Connections { get; } = new();

    public ConcurrentDictionary<string, Task> Pumps { get; } = new(StringComparer.Ordinal);

    /// <summary>Starts of executions that the guest may have heard of and that have no pump yet.</summary>
    public int StartsUnderWay;

    /// <summary>The save under way, or the one that has left the machine stopped. Guarded by the runtime's lock.</summary>
    public MachineSave? Save { get; set; }

    /// <summary>Why the machine is gone; completes then.</summary>
    public Task<string> Ended => _ended.Task;

    /// <summary>Why it is being stopped on purpose, or <see langword="null"/>.</summary>
    public string? StopReason => _stopReason;

    public void RequestStop(string reason)
    {
        Interlocked.CompareExchange(ref _stopReason, reason, null);
        Stopping.Cancel();
    }

    public void SetEnded(string why) => _ended.TrySetResult(why);
}

/// <summary>One save of a microVM.</summary>
internal sealed class MachineSave(string snapshotId, bool stop)
{
    public string SnapshotId => snapshotId;

    /// <summary>It is for a pause: the machine stands still until it is removed or continued.</summary>
    public bool Stop => stop;

    /// <summary>Gives it up.</summary>
    public CancellationTokenSource GivingUp { get; } = new();

    public Task<MicroVmSaved> Task { get; set; } = null!;

    /// <summary>Whether the machine is busy with it: it is under way, or it has left the machine stopped.</summary>
    public bool Occupies => !Task.IsCompleted || (stop && Task.IsCompletedSuccessfully);
}
