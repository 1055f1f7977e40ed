using System.Diagnostics;
using System.Net.Sockets;
using System.Security.Cryptography;
using Google.Protobuf;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Wasm.Worker;

namespace Sandbox.Isolation.Wasm.Machine;

/// <summary>One machine of the worker's: a connection to it, which is the machine's guest channel, and whose end is the machine's.</summary>
internal sealed partial class WasmMicroVm : IMicroVm
{
    /// <summary>What a machine may hold in the worker beside its guests: output that its host has not taken.</summary>
    private const int ChannelMiB = 64;

    private static readonly TimeSpan AnswerDeadline = TimeSpan.FromSeconds(20);

    private readonly TaskCompletionSource<MicroVmExit> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly SemaphoreSlim _disposing = new(1, 1);
    private readonly MicroVmSpec _spec;
    private readonly OwnerRecords _records;
    private readonly Action<WasmMicroVm> _removed;
    private readonly ILogger _logger;
    private WorkerProcess? _worker;
    private IDisposable? _memory;
    private SafeFileHandle? _disk;
    private GuestConnection? _guest;
    private bool _expected;
    private bool _disposed;

    private WasmMicroVm(MicroVmSpec spec, OwnerRecords records, Action<WasmMicroVm> removed, ILogger logger) => (_spec, _records, _removed, _logger) = (spec, records, removed, logger);

    /// <inheritdoc/>
    public MicroVmOwner Owner => _spec.Owner;

    /// <inheritdoc/>
    public IGuest Guest => _guest ?? throw new InvalidOperationException("The microVM has not started.");

    /// <inheritdoc/>
    public Task<MicroVmExit> Exited => _exited.Task;

    /// <inheritdoc/>
    public MicroVmStartReport StartReport { get; private set; } = new("boot", "", 1, TimeSpan.Zero);

    /// <inheritdoc/>
    public IReadOnlyList<IGuestExecution> Survivors { get; private set; } = [];

    /// <summary>Makes a machine, or brings one back. If that fails, nothing of it is left.</summary>
    public static async Task<WasmMicroVm> StartAsync(
        MicroVmSpec spec, WasmOptions options, OwnerRecords records, WorkerHost workers, Action<WasmMicroVm> removed, Stopwatch clock, ILogger logger, CancellationToken cancellationToken)
    {
        var machine = new WasmMicroVm(spec, records, removed, logger);
        var diskExisted = File.Exists(spec.DiskPath);
        try
        {
            records.Write(spec.Owner);
            if (spec.Restore is { } restore)
            {
                await machine.RestoreDiskAsync(restore, diskExisted, cancellationToken).ConfigureAwait(false);
            }

            await machine.BringUpAsync(options, workers, cancellationToken).ConfigureAwait(false);
            machine.StartReport = new MicroVmStartReport(spec.Restore is null ? "boot" : "restore", "", 1, clock.Elapsed);
            return machine;
        }
        catch (Exception e)
        {
            await machine.DisposeAsync().ConfigureAwait(false);
            if (!diskExisted)
            {
                File.Delete(spec.DiskPath);
            }

            cancellationToken.ThrowIfCancellationRequested();
            throw e is IsolationException { Message: var said } && said.StartsWith("MicroVM", StringComparison.Ordinal) ? e : new IsolationException($"MicroVM {spec.Owner.VmId} did not start: {e.Message}", e);
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _disposing.WaitAsync().ConfigureAwait(false);
        try
        {
            if (_disposed)
            {
                return;
            }

            (_disposed, _expected) = (true, true);
            if (_guest is not null)
            {
                await _guest.DisposeAsync().ConfigureAwait(false);
                await UntilGoneAsync().ConfigureAwait(false);
            }

            LetGo();
            _exited.TrySetResult(new MicroVmExit(true, "it was asked to stop"));
            _memory?.Dispose();
            _disk?.Dispose();
            _records.Remove(Owner.VmId);
            _removed(this);
        }
        finally
        {
            _disposing.Release();
        }
    }

    private async Task RestoreDiskAsync(MachineRestore restore, bool diskExisted, CancellationToken cancellationToken)
    {
        var needed = SessionDisk.Facts((long)_spec.DiskMiB << 20);
        if (restore.Source.Facts != needed)
        {
            throw new IsolationException($"MicroVM {Owner.VmId} cannot be restored: what was saved is {restore.Source.Facts}, and needed is {needed}.");
        }

        if (diskExisted)
        {
            throw new IsolationException($"MicroVM {Owner.VmId} cannot be restored: there is a disk at {_spec.DiskPath} already.");
        }

        await SessionDisk.RestoreAsync(restore.Source, _spec.DiskPath, cancellationToken).ConfigureAwait(false);
        Survivors = [.. restore.Executions.Select(e => new LostExecution(e.ExecutionId))];
    }

    private async Task BringUpAsync(WasmOptions options, WorkerHost workers, CancellationToken cancellationToken)
    {
        var bytes = (long)_spec.DiskMiB << 20;
        (_disk, _) = SessionDisk.Open(_spec.DiskPath, bytes);
        _worker = await workers.GetAsync(cancellationToken).ConfigureAwait(false);
        _memory = _worker.Reserve((long)(_spec.MemoryMiB + ChannelMiB) << 20);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        deadline.CancelAfter(AnswerDeadline);
        var order = new WorkerOrder
        {
            Operation = "machine",
            VmId = Owner.VmId,
            SessionId = Owner.SessionId,
            Hostname = _spec.Hostname,
            ImageDirectory = ImageInside(options, _worker.IsConfined),
            Vcpus = _spec.Vcpus,
            Cores = _spec.CpuLimit ?? _spec.Vcpus,
            MemoryBytes = (long)_spec.MemoryMiB << 20,
            DiskBytes = bytes,
        };
        NetworkStream stream;
        try
        {
            stream = await ControlConnection.OpenAsync(_worker.Control, order, _disk, deadline.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or SocketException && _worker.Exited.IsCompleted)
        {
            throw new IsolationException(await _worker.Exited.ConfigureAwait(false), e);
        }

        _guest = await GuestConnection.ConnectAsync(
            stream, Owner.VmId, new GuestConnectionOptions { HelloDeadline = AnswerDeadline, RequestTimeout = TimeSpan.FromSeconds(60) }, _logger, deadline.Token).ConfigureAwait(false);
        _ = WatchAsync(_guest, _worker);
        await _guest.RequestAsync(
            new Request { Reseed = new Reseed { Entropy = ByteString.CopyFrom(RandomNumberGenerator.GetBytes(64)), Hostname = _spec.Hostname, SessionId = Owner.SessionId } },
            deadline.Token).ConfigureAwait(false);
    }

    /// <summary>The image as the worker sees it.</summary>
    private string ImageInside(WasmOptions options, bool confined)
    {
        if (!confined)
        {
            return _spec.ImageDirectory;
        }

        var below = Path.GetRelativePath(Path.GetFullPath(options.ImageRoot), Path.GetFullPath(_spec.ImageDirectory));
        return below.StartsWith("..", StringComparison.Ordinal) || Path.IsPathRooted(below)
            ? throw new IsolationException($"MicroVM {Owner.VmId} did not start: its image {_spec.ImageDirectory} is not below {options.ImageRoot}, which is all that the worker sees.")
            : Path.Combine(WorkerLauncher.ImagesInside, below);
    }

    private async Task WatchAsync(GuestConnection guest, WorkerProcess worker)
    {
        var why = await guest.Closed.ConfigureAwait(false);
        if (!_expected && await Task.WhenAny(worker.Exited, Task.Delay(1000)).ConfigureAwait(false) == worker.Exited)
        {
            why = await worker.Exited.ConfigureAwait(false);
        }

        _exited.TrySetResult(new MicroVmExit(_expected, _expected ? "it was asked to stop" : why));
    }

    /// <summary>The worker writes the disk once more when a machine ends: who removes or reads it afterwards must not meet that.</summary>
    private async Task UntilGoneAsync()
    {
        for (var tries = 0; tries < 200 && _worker is { Exited.IsCompleted: false } worker; tries++)
        {
            try
            {
                using var deadline = new CancellationTokenSource(AnswerDeadline);
                await using var _ = await ControlConnection.OpenAsync(worker.Control, new WorkerOrder { Operation = "alive", VmId = Owner.VmId }, null, deadline.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IsolationException or IOException or SocketException or OperationCanceledException)
            {
                return;
            }

            await Task.Delay(5).ConfigureAwait(false);
        }
    }
}
