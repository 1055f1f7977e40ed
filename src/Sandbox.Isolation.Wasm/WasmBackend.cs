using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Wasm.Machine;
using Sandbox.Isolation.Wasm.Worker;

namespace Sandbox.Isolation.Wasm;

/// <summary>
/// Machines that are guests of Wasmtime, in one worker process of this host that is confined as a VMM is. A start takes a millisecond or two; what runs is JavaScript, Python, and any module for WASI
/// preview 1. See docs/wasm.md.
/// </summary>
public sealed class WasmBackend : IIsolationBackend, IAsyncDisposable
{
    /// <summary>The backend's name.</summary>
    public const string BackendName = "wasm";

    private readonly ConcurrentDictionary<string, WasmMicroVm> _machines = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, bool> _starting = new(StringComparer.Ordinal);
    private readonly WasmOptions _options;
    private readonly ILogger<WasmBackend> _logger;
    private readonly OwnerRecords _records;
    private readonly WorkerHost _worker;
    private readonly Lazy<Task<BackendVerdict>> _verdict;

    /// <summary>Makes the backend. Nothing is started yet.</summary>
    public WasmBackend(WasmOptions options, ILogger<WasmBackend> logger)
    {
        ArgumentNullException.ThrowIfNull(options);
        (_options, _logger) = (options, logger);
        _records = new OwnerRecords(Path.Combine(options.RuntimeRoot, options.HostId, "wasm"));
        _worker = new WorkerHost(options, logger);
        _verdict = new Lazy<Task<BackendVerdict>>(() => _worker.ProbeAsync(CancellationToken.None));
    }

    /// <inheritdoc/>
    public string Name => BackendName;

    /// <inheritdoc/>
    public BackendCapabilities Capabilities { get; } = new() { Boundary = TrustBoundary.WebAssembly, DiskSnapshot = true, Fork = true, Processes = false };

    /// <inheritdoc/>
    public string ImageKind => TemplateImage.WasmKind;

    /// <summary>Process id of the worker that runs now, or <see langword="null"/>.</summary>
    public int? WorkerProcessId => _worker.Current?.ProcessId;

    /// <inheritdoc/>
    public Task<BackendVerdict> ProbeAsync(CancellationToken cancellationToken) => _verdict.Value.WaitAsync(cancellationToken);

    /// <inheritdoc/>
    public async Task<IMicroVm> StartAsync(MicroVmSpec spec, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(spec);
        Check(spec);
        var clock = Stopwatch.StartNew();
        if (await ProbeAsync(cancellationToken).ConfigureAwait(false) is { Usable: false } verdict)
        {
            throw new IsolationException($"WebAssembly is not usable on this host: {verdict.Reason}");
        }

        if (_machines.ContainsKey(spec.Owner.VmId) || !_starting.TryAdd(spec.Owner.VmId, true))
        {
            throw new IsolationException($"There is a microVM '{spec.Owner.VmId}' already.");
        }

        try
        {
            var machine = await WasmMicroVm.StartAsync(spec, _options, _records, _worker, m => _machines.TryRemove(new(m.Owner.VmId, m)), clock, _logger, cancellationToken).ConfigureAwait(false);
            _machines[spec.Owner.VmId] = machine;
            return machine;
        }
        finally
        {
            _starting.TryRemove(spec.Owner.VmId, out _);
        }
    }

    /// <inheritdoc/>
    public Task<RestoreFit> FitAsync(string imageDirectory, TemplateSizes sizes, MachineFacts facts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sizes);
        ArgumentNullException.ThrowIfNull(facts);
        return Task.FromResult(SessionDisk.Facts((long)sizes.DiskMiB << 20) == facts ? RestoreFit.Ready : RestoreFit.Foreign);
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
            reaped.Add(new ReapedMicroVm(machine.Owner, "machine, directory"));
        }

        // A machine of a predecessor ended with its worker, and that with the predecessor: what is left is a record. Of ours that live, each has one too.
        foreach (var owner in _records.List().Where(o => !_machines.ContainsKey(o.VmId) && !_starting.ContainsKey(o.VmId)))
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (!isLive(owner))
            {
                _records.Remove(owner.VmId);
                reaped.Add(new ReapedMicroVm(owner, "directory"));
            }
        }

        reaped.AddRange(await _worker.ReapAsync(cancellationToken).ConfigureAwait(false));
        return reaped;
    }

    /// <summary>Ends all machines, and the worker.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (var machine in _machines.Values)
        {
            await machine.DisposeAsync().ConfigureAwait(false);
        }

        await _worker.DisposeAsync().ConfigureAwait(false);
    }

    private static void Check(MicroVmSpec spec)
    {
        var id = spec.Owner.VmId;
        if (id.Length is 0 or > 40 || !id.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-'))
        {
            throw new IsolationException($"'{id}' is no microVM id; it must match [a-z0-9-]{{1,40}}.");
        }

        if (spec is not { Vcpus: >= 1 and <= 32, MemoryMiB: >= 128 and <= 65536, DiskMiB: >= 64 and <= 1048576 })
        {
            throw new IsolationException($"MicroVM {id} asks for sizes out of range: vCPUs 1..32, memory 128..65536 MiB, disk 64..1048576 MiB.");
        }

        if (!File.Exists(Path.Combine(spec.ImageDirectory, TemplateImage.FileName)))
        {
            throw new IsolationException($"There is no finished image in {spec.ImageDirectory}; build it with: sandbox image build wasm");
        }

        if (TemplateImage.Load(spec.ImageDirectory) is { Kind: not TemplateImage.WasmKind } image)
        {
            throw new IsolationException($"The image '{image.Template}' in {spec.ImageDirectory} is of kind '{image.Kind}'; the wasm backend starts images of kind '{TemplateImage.WasmKind}'.");
        }
    }
}
