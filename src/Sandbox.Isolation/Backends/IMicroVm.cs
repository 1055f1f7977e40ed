using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Network;

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

    /// <summary>The machine's network, where its backend has <see cref="BackendCapabilities.Network"/>; it reaches nothing until somebody listens in it. Gone with the machine.</summary>
    IGuestNetwork? Network => null;

    /// <summary>Completes, never faults, when the machine is gone for whatever reason.</summary>
    Task<MicroVmExit> Exited { get; }

    /// <summary>How the machine came to be, with times, for the session's record.</summary>
    MicroVmStartReport StartReport { get; }

    /// <summary>
    /// Gives a machine of the warm pool to a session: its disk moves to the session's place, it runs on, and gets randomness, time and names of its own. When this returns, user code may run.
    /// </summary>
    /// <exception cref="IsolationException">The machine is dead or does not answer. Dispose it and take another.</exception>
    Task ClaimAsync(MicroVmClaim claim, CancellationToken cancellationToken) => throw new NotSupportedException("This microVM is of no warm pool.");

    /// <summary>Executions that went on in a restored machine: one for each that the restore named, in that order. One that the guest does not know any more fails at its first read.</summary>
    IReadOnlyList<IGuestExecution> Survivors => [];

    /// <summary>
    /// Saves the machine: CPU, devices, memory, disk, and what the host knows of the guest's channel. Whatever goes wrong before the sink has all of it, the machine runs on as if nothing had been
    /// asked, unless it died.
    /// </summary>
    /// <param name="sink">Where to. A fault of it fails the save.</param>
    /// <param name="mode">How the machine goes on.</param>
    /// <param name="whileStopped">
    /// Called once the machine stands still and no acknowledgement can reach it: what is written down of executions and their logs now belongs to exactly the state that is saved.
    /// </param>
    /// <param name="cancellationToken">Gives up; the machine runs on.</param>
    /// <exception cref="IsolationException">The machine could not be saved.</exception>
    /// <exception cref="NotSupportedException">The backend has neither <see cref="BackendCapabilities.MemorySnapshot"/> nor <see cref="BackendCapabilities.DiskSnapshot"/>.</exception>
    Task<SaveReport> SaveAsync(IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken) =>
        throw new NotSupportedException("This microVM cannot be saved.");

    /// <summary>Lets a machine run on that a save has left stopped. One that runs is no error.</summary>
    /// <exception cref="IsolationException">The machine is dead.</exception>
    Task ContinueAsync(CancellationToken cancellationToken) => throw new NotSupportedException("This microVM cannot be saved.");
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
/// <param name="Method"><c>boot</c>, <c>clone</c> (of the golden snapshot), <c>pool</c> (a clone made beforehand), or <c>restore</c> (of a saved machine).</param>
/// <param name="Accelerator"><c>kvm</c>, <c>tcg</c>, the runtime of a container (<c>runc</c>, <c>crun</c>, <c>runsc</c>), or empty.</param>
/// <param name="Attempts">1, or more where a boot had to be repeated.</param>
/// <param name="Duration">From the call to an agent that is ready for user code.</param>
public sealed record MicroVmStartReport(string Method, string Accelerator, int Attempts, TimeSpan Duration);
