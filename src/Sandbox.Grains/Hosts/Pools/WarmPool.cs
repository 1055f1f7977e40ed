using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;

namespace Sandbox.Grains.Hosts.Pools;

/// <summary>
/// Machines of one template on one host that have run and been stopped, and wait for a session. Taking one never waits: a pool that is being refilled, or is empty, simply has none.
/// </summary>
internal sealed class WarmPool(IIsolationBackend backend, MicroVmSpec pattern, string directory, TimeProvider clock, ILogger logger) : IAsyncDisposable
{
    private readonly Lock _gate = new();
    private readonly List<IMicroVm> _ready = [];
    private readonly HashSet<string> _ids = new(StringComparer.Ordinal);
    private readonly ArrivalRate _arrivals = new(clock);
    private TimeSpan _refill = TimeSpan.FromSeconds(1);
    private bool _closed;

    /// <summary>Memory of each machine, in MiB.</summary>
    public int MemoryMiB => pattern.MemoryMiB;

    /// <summary>The image its machines are clones of.</summary>
    public string ImageDirectory => pattern.ImageDirectory;

    /// <summary>Sessions that took a machine.</summary>
    public long Hits { get; private set; }

    /// <summary>Sessions that found none.</summary>
    public long Misses { get; private set; }

    /// <summary>How many it should have; see <see cref="PoolSize"/>.</summary>
    public int Target { get; private set; }

    /// <summary>Machines that can be taken now.</summary>
    public int Ready
    {
        get
        {
            lock (_gate)
            {
                return _ready.Count;
            }
        }
    }

    /// <summary>Arrivals in a minute, as observed.</summary>
    public double ArrivalsPerMinute
    {
        get
        {
            lock (_gate)
            {
                return _arrivals.PerSecond * 60;
            }
        }
    }

    /// <summary>Whether a session of these sizes can use a machine of this pool.</summary>
    public bool Fits(int vcpus, int memoryMiB, int diskMiB) => vcpus == pattern.Vcpus && memoryMiB == pattern.MemoryMiB && diskMiB == pattern.DiskMiB;

    /// <summary>Whether a machine is of this pool, ready or being made. A machine that was taken is not.</summary>
    public bool Owns(string vmId)
    {
        lock (_gate)
        {
            return _ids.Contains(vmId);
        }
    }

    /// <summary>A session arrives.</summary>
    public void NoteArrival()
    {
        lock (_gate)
        {
            _arrivals.Note();
        }
    }

    /// <summary>Gives a machine to a session, or <see langword="null"/>. One that proves dead is dropped and the next is tried.</summary>
    public async Task<IMicroVm?> ClaimAsync(MicroVmClaim claim, Action<IMicroVm> taking, CancellationToken cancellationToken)
    {
        while (true)
        {
            IMicroVm vm;
            lock (_gate)
            {
                if (_ready.Count == 0)
                {
                    Misses++;
                    return null;
                }

                vm = _ready[0];
                _ready.RemoveAt(0);

                // Before it stops being the pool's: the reaper must see it owned at every moment.
                taking(vm);
                _ids.Remove(vm.Owner.VmId);
            }

            try
            {
                await vm.ClaimAsync(claim, cancellationToken);
                lock (_gate)
                {
                    Hits++;
                }

                return vm;
            }
            catch (Exception e)
            {
                logger.LogWarning(e, "MicroVM {Vm} of the warm pool could not be claimed; another is taken", vm.Owner.VmId);
                await RemoveAsync(vm);
                File.Delete(claim.DiskPath);
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
    }

    /// <summary>Makes one machine if one is wanted, or removes one that is too many. Returns whether it did.</summary>
    /// <param name="floor">Least.</param>
    /// <param name="ceiling">Most.</param>
    /// <param name="room">How many there is memory for.</param>
    /// <param name="cancellationToken">Ends the making.</param>
    public async Task<bool> AdjustAsync(int floor, int ceiling, int room, CancellationToken cancellationToken)
    {
        IMicroVm? surplus;
        string? id = null;
        lock (_gate)
        {
            Target = _closed ? 0 : PoolSize.Target(_arrivals.PerSecond, _refill, floor, ceiling, room);

            // A machine that died while it waited is nobody's hope.
            surplus = _ready.Find(vm => vm.Exited.IsCompleted) ?? (_ready.Count > Target ? _ready[0] : null);
            if (surplus is not null)
            {
                _ready.Remove(surplus);
            }
            else if (_ready.Count < Target)
            {
                id = "pool-" + Guid.NewGuid().ToString("N")[..16];
                _ids.Add(id);
            }
        }

        if (surplus is not null)
        {
            await RemoveAsync(surplus);
            return true;
        }

        return id is not null && await AddAsync(id, cancellationToken);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        List<IMicroVm> rest;
        lock (_gate)
        {
            _closed = true;
            rest = [.. _ready];
            _ready.Clear();
        }

        await Task.WhenAll(rest.Select(RemoveAsync));
    }

    private async Task<bool> AddAsync(string id, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        IMicroVm? vm = null;
        try
        {
            vm = await backend.PrepareAsync(pattern with { Owner = new MicroVmOwner(id, "", 0), DiskPath = DiskOf(id) }, cancellationToken);
        }
        finally
        {
            if (vm is null)
            {
                lock (_gate)
                {
                    _ids.Remove(id);
                }
            }
        }

        if (vm is null)
        {
            return false;
        }

        var closed = false;
        lock (_gate)
        {
            _refill = Stopwatch.GetElapsedTime(began);
            closed = _closed;
            if (!closed)
            {
                _ready.Add(vm);
            }
        }

        if (closed)
        {
            await RemoveAsync(vm);
        }

        return true;
    }

    private async Task RemoveAsync(IMicroVm vm)
    {
        await vm.DisposeAsync();
        File.Delete(DiskOf(vm.Owner.VmId));
        lock (_gate)
        {
            _ids.Remove(vm.Owner.VmId);
        }
    }

    private string DiskOf(string id) => Path.Combine(directory, id + ".img");
}
