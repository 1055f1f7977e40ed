using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Backends;

/// <summary>
/// A way to make a microVM real on this host (QEMU, Firecracker, OCI containers, gVisor, WebAssembly). Backends know nothing of Orleans or HTTP;
/// one instance serves a whole host and is safe for concurrent use.
/// </summary>
public interface IIsolationBackend
{
    /// <summary>The name users write in a session request, for example <c>qemu</c>.</summary>
    string Name { get; }

    /// <summary>What this backend can do. Fixed for the life of the process.</summary>
    BackendCapabilities Capabilities { get; }

    /// <summary>Kind of images it starts; see <see cref="TemplateImage.Kind"/>.</summary>
    string ImageKind => TemplateImage.LinuxKind;

    /// <summary>
    /// Finds out whether the backend is usable here, by trying and not by looking. The verdict is kept; later calls return it.
    /// </summary>
    Task<BackendVerdict> ProbeAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Starts one microVM and returns once its agent has answered and has been reseeded, so that user code may run.
    /// If it fails or is cancelled, everything it made has been removed again. A machine whose disk does not exist yet is cloned from the golden snapshot of
    /// its image and sizes where this host has one, and booted where not.
    /// </summary>
    /// <exception cref="IsolationException">The microVM could not be started; the message says what and why.</exception>
    Task<IMicroVm> StartAsync(MicroVmSpec spec, CancellationToken cancellationToken);

    /// <summary>
    /// Makes a machine for the warm pool: run once, because a first run is slow, and stopped. It serves nobody until <see cref="IMicroVm.ClaimAsync"/>.
    /// </summary>
    /// <returns>The machine, or <see langword="null"/> where one cannot be made now (there is no golden snapshot to clone yet).</returns>
    /// <exception cref="IsolationException">The machine could not be cloned.</exception>
    Task<IMicroVm?> PrepareAsync(MicroVmSpec spec, CancellationToken cancellationToken) => Task.FromResult<IMicroVm?>(null);

    /// <summary>The golden snapshot for an image and sizes, if this host has one that fits this host as it is now; else <see langword="null"/>.</summary>
    Task<GoldenSnapshot?> FindGoldenAsync(string imageDirectory, TemplateSizes sizes, CancellationToken cancellationToken) => Task.FromResult<GoldenSnapshot?>(null);

    /// <summary>
    /// Boots the image once, warms its interpreters and snapshots it, unless there is such a snapshot already. Takes as long as a boot and the imports.
    /// </summary>
    /// <exception cref="IsolationException">The image did not boot, or could not be saved.</exception>
    /// <exception cref="NotSupportedException">The backend has no <see cref="BackendCapabilities.GoldenSnapshot"/>.</exception>
    Task<GoldenSnapshot> BuildGoldenAsync(string imageDirectory, TemplateSizes sizes, CancellationToken cancellationToken) =>
        throw new NotSupportedException($"Backend '{Name}' makes no golden snapshots.");

    /// <summary>Whether a saved machine can be brought back here.</summary>
    Task<RestoreFit> FitAsync(string imageDirectory, TemplateSizes sizes, MachineFacts facts, CancellationToken cancellationToken) => Task.FromResult(RestoreFit.Foreign);

    /// <summary>Writes a golden snapshot of this host to a sink, as a machine that is a difference from nothing, so that other hosts can have the very same.</summary>
    /// <exception cref="NotSupportedException">The backend has no <see cref="BackendCapabilities.MemorySnapshot"/>.</exception>
    Task ExportGoldenAsync(string imageDirectory, TemplateSizes sizes, string goldenId, IMachineSink sink, CancellationToken cancellationToken) =>
        throw new NotSupportedException($"Backend '{Name}' makes no golden snapshots.");

    /// <summary>
    /// Takes a golden snapshot of another host, beside this host's own. Saved machines that are differences from it can be restored then; new machines are cloned from this host's own.
    /// </summary>
    /// <exception cref="IsolationException">It is of another VMM, processor, image or size, or its content is not what its id says.</exception>
    /// <exception cref="NotSupportedException">The backend has no <see cref="BackendCapabilities.MemorySnapshot"/>.</exception>
    Task ImportGoldenAsync(string imageDirectory, TemplateSizes sizes, string goldenId, IMachineSource source, CancellationToken cancellationToken) =>
        throw new NotSupportedException($"Backend '{Name}' makes no golden snapshots.");

    /// <summary>
    /// Kills and removes every microVM of this host (process, cgroup, directory, socket) that <paramref name="isLive"/> does not claim:
    /// leftovers of a crashed predecessor at start, leaks later.
    /// </summary>
    /// <param name="isLive">Says whether a live lease names this owner.</param>
    /// <param name="cancellationToken">Stops between two leftovers.</param>
    Task<IReadOnlyList<ReapedMicroVm>> ReapAsync(Func<MicroVmOwner, bool> isLive, CancellationToken cancellationToken);
}

/// <summary>Whether a backend is usable on this host, and why.</summary>
/// <param name="Usable">Sessions can be started.</param>
/// <param name="Accelerator"><c>kvm</c>, <c>tcg</c>, the runtime of containers (<c>runc</c>, <c>crun</c>, <c>runsc</c>), or empty where the word has no meaning.</param>
/// <param name="Reason">For people: what was tried and what came of it.</param>
/// <param name="Version">Version of the underlying program, for example <c>QEMU 7.2.22</c>.</param>
/// <param name="Warnings">What an operator must know, for example that TCG is no security boundary for upstream.</param>
public sealed record BackendVerdict(bool Usable, string Accelerator, string Reason, string Version, IReadOnlyList<string> Warnings);

/// <summary>Who a microVM and everything it holds on a host belongs to. Written beside the machine before it starts.</summary>
/// <param name="VmId">The microVM.</param>
/// <param name="SessionId">The session it serves, or empty for a pool machine.</param>
/// <param name="Generation">The session's fencing number at the time.</param>
public sealed record MicroVmOwner(string VmId, string SessionId, long Generation);

/// <summary>One leftover that was removed.</summary>
public sealed record ReapedMicroVm(MicroVmOwner Owner, string What);

/// <summary>Why a backend could not do what was asked. The message is fit for users.</summary>
public sealed class IsolationException : Exception
{
    /// <summary>Makes an exception that says what failed, to what, and what to do.</summary>
    public IsolationException(string message)
        : base(message)
    {
    }

    /// <summary>Makes an exception that wraps a cause.</summary>
    public IsolationException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
