using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>A host: capacity, leases, backends, orphan reaping. Key: host id; lives on that host's silo.</summary>
[Alias("sandbox.IHostGrain")]
public interface IHostGrain : IGrainWithStringKey
{
    /// <summary>The host's newest report.</summary>
    [Alias("get"), AlwaysInterleave]
    Task<HostReport> GetAsync();

    /// <summary>
    /// Reserves capacity. Refuses (false) when full or draining. A generation lower than the highest this host has seen of the session is refused with
    /// <see cref="SandboxErrorCode.Conflict"/>; a higher one first kills the microVM of the lower.
    /// </summary>
    [Alias("reserve")]
    Task<bool> TryReserveAsync(HostLease lease);

    /// <summary>Gives capacity back. Unknown leases are no error.</summary>
    [Alias("release")]
    Task ReleaseAsync(string sessionId, long generation);

    /// <summary>Removes a session's disk and outputs from this host.</summary>
    [Alias("forget-session")]
    Task ForgetSessionAsync(string sessionId);

    /// <summary>
    /// Makes sure that the log of an execution which does not run on this host any more ends with an exit: <paramref name="exit"/> is written if there is none.
    /// Answers the exit that is in the log, or <see langword="null"/> if the execution still runs here.
    /// </summary>
    [Alias("seal-execution"), AlwaysInterleave]
    Task<ExecutionExit?> SealExecutionAsync(string sessionId, string executionId, ExecutionExit exit);

    /// <summary>Lines of the part of a session's egress log that is on this host.</summary>
    [Alias("read-egress-log"), AlwaysInterleave]
    Task<EgressPage> ReadEgressLogAsync(string sessionId, long from, int max, TimeSpan wait);
}

/// <summary>Chooses hosts. One grain for the cluster (key 0); it keeps only what hosts report, so losing it loses nothing.</summary>
[Alias("sandbox.ISchedulerGrain")]
public interface ISchedulerGrain : IGrainWithIntegerKey
{
    /// <summary>A host reports. A host silent for 15 s is not placed on.</summary>
    [Alias("report"), AlwaysInterleave]
    Task ReportAsync(HostReport report);

    /// <summary>Chooses a host: warm microVM first, then locality, then free capacity.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.ResourceExhausted"/> or <see cref="SandboxErrorCode.Unavailable"/>: none fits; the message says which hosts were looked at and why each did not.</exception>
    [Alias("place"), AlwaysInterleave]
    Task<Placement> PlaceAsync(PlacementRequest request);

    /// <summary>All hosts that reported lately.</summary>
    [Alias("hosts"), AlwaysInterleave]
    Task<IReadOnlyList<HostReport>> ListHostsAsync();
}
