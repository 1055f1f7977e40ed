using Sandbox.Isolation.Guest;

namespace Sandbox.Isolation.Backends;

/// <summary>
/// One live isolated machine. Disposing kills it and removes everything it held on the host except the session's disk;
/// it returns when that is done.
/// </summary>
public interface IMicroVm : IAsyncDisposable
{
    /// <summary>Owner as given in the specification; the claimant, once a machine of the pool is claimed.</summary>
    MicroVmOwner Owner { get; }

    /// <summary>The agent inside.</summary>
    IGuest Guest { get; }

    /// <summary>Completes, never faults, when the machine is gone for whatever reason.</summary>
    Task<MicroVmExit> Exited { get; }

    /// <summary>How the machine came to be, with times, for the session's record.</summary>
    MicroVmStartReport StartReport { get; }

    /// <summary>
    /// Gives a machine of the warm pool to a session: its disk moves to the session's place, it runs on, and gets randomness, time and names of its own. When this returns, user code may run.
    /// </summary>
    /// <exception cref="IsolationException">The machine is dead or does not answer. Dispose it and take another.</exception>
    Task ClaimAsync(MicroVmClaim claim, CancellationToken cancellationToken) => throw new NotSupportedException("This microVM is of no warm pool.");
}

/// <summary>Who claims a machine of the warm pool.</summary>
/// <param name="SessionId">The session.</param>
/// <param name="Generation">Its fencing number.</param>
/// <param name="Hostname">Host name inside the guest.</param>
/// <param name="DiskPath">Where the disk moves to: on the same file system, and nothing is there yet.</param>
public sealed record MicroVmClaim(string SessionId, long Generation, string Hostname, string DiskPath);

/// <summary>How a microVM ended.</summary>
/// <param name="Expected">It was asked to stop.</param>
/// <param name="Reason">For people, for example <c>the VMM was killed by the kernel: host memory limit of 400 MiB</c>.</param>
public sealed record MicroVmExit(bool Expected, string Reason);

/// <summary>How a microVM was started and how long the parts took.</summary>
/// <param name="Method"><c>boot</c>, <c>clone</c> (of the golden snapshot), or <c>pool</c> (a clone made beforehand).</param>
/// <param name="Accelerator"><c>kvm</c> or <c>tcg</c>.</param>
/// <param name="Attempts">1, or more where a boot had to be repeated.</param>
/// <param name="Duration">From the call to an agent that is ready for user code.</param>
public sealed record MicroVmStartReport(string Method, string Accelerator, int Attempts, TimeSpan Duration);
