using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Qemu.Memory;
using Sandbox.Isolation.Qemu.Qmp;

namespace Sandbox.Isolation.Qemu.Machine;

// The memory that a machine maps and has in common with others. Decision 21 says how, and why.
internal sealed partial class QemuMicroVm
{
    /// <summary>Shorter runs stay the source's own: nine tenths of the runs hold a sixth of the pages (measured, a Python context with 24 MiB), and it stands still while they are mapped.</summary>
    private const int ShortestToShare = 4;

    private readonly Lock _baseLock = new();
    private SharedMemoryBase? _base;
    private SharedMemoryBases.Lease? _lease;
    private bool _baseReleased;

    /// <summary>What it maps now, held until that is disposed even if the machine is removed meanwhile.</summary>
    private (SharedMemoryBase? Base, SharedMemoryBases.Lease? Lease) HoldBase()
    {
        lock (_baseLock)
        {
            return (_base, _baseReleased ? null : _lease?.Again());
        }
    }

    private void SetBase(SharedMemoryBases.Lease lease)
    {
        SharedMemoryBases.Lease? unused;
        lock (_baseLock)
        {
            (unused, _lease) = _baseReleased ? (lease, _lease) : (_lease, lease);
            _base = lease.Base;
        }

        unused?.Dispose();
    }

    private void ReleaseBase()
    {
        lock (_baseLock)
        {
            _baseReleased = true;
            _lease?.Dispose();
        }
    }

    /// <summary>A new machine's memory becomes that of the saved one: its layer is mapped, or, where that cannot be done, copied.</summary>
    private async Task TakeLayerAsync(MemoryLayer layer, ProcessMemory memory, CancellationToken cancellationToken)
    {
        IEnumerable<(PageRun Run, int Position)> left;
        try
        {
            left = await _origin.Sharing!.ForForks.MapAsync(_qmp!, _process!.Id, memory, layer, shortest: 1, cancellationToken);
        }
        catch (Exception e) when (e is IsolationException or QmpException)
        {
            _logger.LogWarning(e, "MicroVM {VmId} could not map the memory that it shares, and has a copy of its own", Owner.VmId);
            left = layer.Runs();
        }

        await Task.Run(
            () =>
            {
                foreach (var (run, position) in left)
                {
                    for (var i = 0; i < run.Count; i++)
                    {
                        memory.Write(run.First + i, layer.At(position + i));
                    }
                }
            },
            cancellationToken);
    }

    /// <summary>What need not be done while the machine stands still.</summary>
    private async Task PrepareToShareAsync(CancellationToken cancellationToken)
    {
        try
        {
            await _origin.Sharing!.ForSources.PrepareAsync(cancellationToken);
        }
        catch (IsolationException)
        {
            // It will be said when it is tried.
        }
    }

    /// <summary>
    /// Gives the pages of this machine, which stands still, to all that are going to be copies of it: this one maps the layer as they will, so that its own pages are there once and not twice. If it cannot, it keeps
    /// them, and nothing is lost but memory.
    /// </summary>
    /// <returns>What keeps the layer for the caller.</returns>
    private async Task<SharedMemoryBases.Lease> ShareLayerAsync(string name, SharedMemoryBase made, ProcessMemory memory)
    {
        var lease = _origin.Sharing!.Offer(name, made);
        SetBase(lease.Again());
        try
        {
            using var deadline = new CancellationTokenSource(ResumeDeadline);
            await _origin.Sharing!.ForSources.MapAsync(_qmp!, _process!.Id, memory, made.Layer!, ShortestToShare, deadline.Token);
        }
        catch (Exception e) when (e is IsolationException or QmpException or IOException or OperationCanceledException)
        {
            _logger.LogWarning(e, "MicroVM {VmId} could not map the memory that it shares with its forks, and keeps its own", Owner.VmId);
        }

        return lease;
    }
}
