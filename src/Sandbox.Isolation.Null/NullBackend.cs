using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Null.Machine;

namespace Sandbox.Isolation.Null;

/// <summary>
/// A backend that isolates nothing and runs nothing real. It exists for two purposes only: to measure the control plane without the cost of machines, and for tests that kill the server hundreds of
/// times. Its machines are objects whose guests interpret a few scripted programs; they are saved, restored, cloned and taken from a warm pool as real ones are. A session reaches it only with
/// <c>untrusted: false</c>, on a server whose operator turned it on.
/// </summary>
public sealed class NullBackend : IIsolationBackend
{
    /// <summary>The backend's name.</summary>
    public const string BackendName = "null";

    /// <summary>What every verdict warns of.</summary>
    public const string Warning = "runs no code: for tests and measurements of the control plane only";

    private readonly ConcurrentDictionary<string, NullMicroVm> _machines = new(StringComparer.Ordinal);
    private readonly NullOptions _options;
    private readonly OwnerRecords _records;

    /// <summary>Makes the backend, and says in the log that there is one.</summary>
    public NullBackend(NullOptions options, ILogger logger)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegative(options.DirtyPages);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.DirtyPages, 1024);
        _options = options;
        _records = new OwnerRecords(options.RuntimeRoot, options.HostId);
        logger.LogWarning("The null backend is on: it {Warning}", Warning);
    }

    /// <inheritdoc/>
    public string Name => BackendName;

    /// <inheritdoc/>
    public BackendCapabilities Capabilities => new()
    {
        Boundary = TrustBoundary.None,
        MemorySnapshot = true,
        DiskSnapshot = true,
        Fork = true,
        GoldenSnapshot = true,
        WarmPool = true,
        Handover = _options.Devices ? DeviceHandover.Vfio : DeviceHandover.None,
    };

    /// <inheritdoc/>
    public string ImageKind => NullImages.Kind;

    /// <summary>Owners of the machines that live now, those of the warm pool included.</summary>
    public IReadOnlyList<MicroVmOwner> Live => [.. _machines.Values.Where(m => !m.Exited.IsCompleted).Select(m => m.Owner)];

    /// <inheritdoc/>
    public Task<BackendVerdict> ProbeAsync(CancellationToken cancellationToken) =>
        Task.FromResult(new BackendVerdict(true, "", "It was asked for.", "null 1", [Warning]));

    /// <inheritdoc/>
    public async Task<IMicroVm> StartAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(spec);
        return await MakeAsync(spec, parked: false, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public async Task<IMicroVm?> PrepareAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(spec);
        Directory.CreateDirectory(Path.GetDirectoryName(spec.DiskPath)!);
        return await MakeAsync(spec, parked: true, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public Task<GoldenSnapshot?> FindGoldenAsync(string imageDirectory, TemplateSizes sizes, CancellationToken cancellationToken) =>
        Task.FromResult<GoldenSnapshot?>(Golden(imageDirectory));

    /// <inheritdoc/>
    public Task<GoldenSnapshot> BuildGoldenAsync(string imageDirectory, TemplateSizes sizes, CancellationToken cancellationToken) => Task.FromResult(Golden(imageDirectory));

    /// <inheritdoc/>
    public Task<RestoreFit> FitAsync(string imageDirectory, TemplateSizes sizes, MachineFacts facts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sizes);
        ArgumentNullException.ThrowIfNull(facts);
        var fits = facts is { Backend: BackendName, Fingerprint: SavedForm.Fingerprint, GoldenId: null } && facts.MemoryBytes == (long)sizes.MemoryMiB << 20;
        return Task.FromResult(fits ? RestoreFit.Ready : RestoreFit.Foreign);
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<ReapedMicroVm>> ReapAsync(Func<MicroVmOwner, bool> isLive, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(isLive);
        var reaped = new List<ReapedMicroVm>();
        foreach (var machine in _machines.Values.Where(m => !isLive(m.Owner)))
        {
            cancellationToken.ThrowIfCancellationRequested();
            await machine.DisposeAsync().ConfigureAwait(false);
            reaped.Add(new ReapedMicroVm(machine.Owner, "machine"));
        }

        // Records are of machines of this process, seen to above, or of one that died.
        foreach (var owner in _records.List().Where(o => !_machines.ContainsKey(o.VmId) && !isLive(o)))
        {
            cancellationToken.ThrowIfCancellationRequested();
            _records.Remove(owner.VmId);
            reaped.Add(new ReapedMicroVm(owner, "directory"));
        }

        return reaped;
    }

    private async Task<NullMicroVm> MakeAsync(MicroVmSpec spec, bool parked, CancellationToken cancellationToken)
    {
        Check(spec);
        var machine = await NullMicroVm.StartAsync(spec, _options, _records, parked, m => _machines.TryRemove(new(m.Owner.VmId, m)), cancellationToken).ConfigureAwait(false);
        _machines[spec.Owner.VmId] = machine;
        return machine;
    }

    private void Check(MicroVmSpec spec)
    {
        var id = spec.Owner.VmId;
        if (id.Length is 0 or > 40 || !id.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-'))
        {
            throw new IsolationException($"'{id}' is no microVM id; it must match [a-z0-9-]{{1,40}}.");
        }

        if (_machines.ContainsKey(id))
        {
            throw new IsolationException($"There is a microVM '{id}' already.");
        }

        if (spec is not { Vcpus: >= 1 and <= 32, MemoryMiB: >= 128 and <= 65536, DiskMiB: >= 64 and <= 1048576 })
        {
            throw new IsolationException($"MicroVM {id} asks for sizes out of range: vCPUs 1..32, memory 128..65536 MiB, disk 64..1048576 MiB.");
        }
    }

    private static GoldenSnapshot Golden(string imageDirectory) => new(SavedForm.Fingerprint, BackendName, imageDirectory, DateTimeOffset.UnixEpoch, 0);
}
