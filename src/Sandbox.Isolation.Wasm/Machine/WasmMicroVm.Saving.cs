using System.Diagnostics;
using System.Net.Sockets;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Wasm.Worker;

namespace Sandbox.Isolation.Wasm.Machine;

// Saving a machine: its files. What runs stands still meanwhile, and runs on; in a machine that is made of the saved one, nothing runs.
internal sealed partial class WasmMicroVm
{
    private readonly SemaphoreSlim _savingTurn = new(1, 1);
    private (GuestQuiet Quiet, NetworkStream Freeze)? _stopped;

    /// <inheritdoc/>
    public async Task<SaveReport> SaveAsync(IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(sink);
        ArgumentNullException.ThrowIfNull(whileStopped);
        await _savingTurn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            if (_stopped is not null)
            {
                throw new IsolationException($"MicroVM {Owner.VmId} was saved and stands still; continue it before it is saved again.");
            }

            return await SaveOnceAsync(sink, mode, whileStopped, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (e is GuestUnavailableException or IOException or SocketException or ObjectDisposedException or IsolationException)
        {
            var why = Exited.IsCompleted ? $"it is dead: {(await Exited.ConfigureAwait(false)).Reason}" : e.Message;
            throw e is IsolationException && why == e.Message && why.StartsWith("MicroVM", StringComparison.Ordinal) ? e : new IsolationException($"MicroVM {Owner.VmId} could not be saved: {why}", e);
        }
        finally
        {
            _savingTurn.Release();
        }
    }

    /// <inheritdoc/>
    public async Task ContinueAsync(CancellationToken cancellationToken)
    {
        await _savingTurn.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            LetGo();
            if (Exited.IsCompleted)
            {
                throw new IsolationException($"MicroVM {Owner.VmId} cannot go on, it is dead: {(await Exited.ConfigureAwait(false)).Reason}");
            }
        }
        finally
        {
            _savingTurn.Release();
        }
    }

    private async Task<SaveReport> SaveOnceAsync(IMachineSink sink, SaveMode mode, Func<CancellationToken, Task> whileStopped, CancellationToken cancellationToken)
    {
        await sink.BeginAsync(SessionDisk.Facts((long)_spec.DiskMiB << 20), cancellationToken).ConfigureAwait(false);
        var quiet = await _guest!.QuiesceAsync(cancellationToken).ConfigureAwait(false);
        var began = Stopwatch.GetTimestamp();
        NetworkStream? freeze = null;
        SafeFileHandle? copy = null;
        var kept = false;
        try
        {
            freeze = await ControlConnection.OpenAsync(_worker!.Control, new WorkerOrder { Operation = "freeze", VmId = Owner.VmId }, null, cancellationToken).ConfigureAwait(false);
            var memo = quiet.Remember().Encode();
            await whileStopped(cancellationToken).ConfigureAwait(false);
            var stopped = TimeSpan.Zero;
            if (mode != SaveMode.StayStopped)
            {
                copy = await Task.Run(() => SessionDisk.Copy(_disk!, _spec.DiskPath), cancellationToken).ConfigureAwait(false);
                await freeze.DisposeAsync().ConfigureAwait(false);
                quiet.Dispose();
                stopped = Stopwatch.GetElapsedTime(began);
            }

            // There is no processor whose state could be saved; a store may want some bytes of it.
            await sink.WriteDevicesAsync(new byte[] { 1 }, cancellationToken).ConfigureAwait(false);
            await sink.WriteGuestAsync(memo, cancellationToken).ConfigureAwait(false);
            var written = await Task.Run(() => SessionDisk.WriteAsync(copy ?? _disk!, sink, cancellationToken), cancellationToken).ConfigureAwait(false);
            if (mode == SaveMode.StayStopped)
            {
                (_stopped, kept) = ((quiet, freeze), true);
                stopped = Stopwatch.GetElapsedTime(began);
                if (_disposed)
                {
                    LetGo();
                }
            }

            return new SaveReport(stopped, 0, written);
        }
        finally
        {
            copy?.Dispose();
            if (!kept)
            {
                // The worker lets the machine run when this connection ends, whatever becomes of us.
                freeze?.Dispose();
                quiet.Dispose();
            }
        }
    }

    /// <summary>Lets a machine go on that a save has left stopped.</summary>
    private void LetGo()
    {
        if (_stopped is var (quiet, freeze))
        {
            _stopped = null;
            freeze.Dispose();
            quiet.Dispose();
        }
    }
}
