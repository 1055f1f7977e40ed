using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Pools;
using Sandbox.Grains.Scheduling;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Warm pools: one for the current version of each template, refilled while nothing is being started.</summary>
internal sealed partial class HostRuntime
{
    private readonly ConcurrentDictionary<(string Backend, string Template), WarmPool> _pools = new();
    private readonly HashSet<string> _poolFailed = new(StringComparer.Ordinal);

    /// <summary>What the pool of a template is and did.</summary>
    public WarmPoolReport PoolReport(string template)
    {
        var pools = _pools.Where(p => p.Key.Template == template).Select(p => p.Value).ToList();
        return new WarmPoolReport
        {
            HostId = HostId,
            Template = template,
            Ready = pools.Sum(p => p.Ready),
            Target = pools.Sum(p => p.Target),
            Hits = pools.Sum(p => p.Hits),
            Misses = pools.Sum(p => p.Misses),
            ArrivalsPerMinute = pools.Sum(p => p.ArrivalsPerMinute),
        };
    }

    private string PoolDirectory => Path.Combine(_options.DataDirectory, "pool");

    /// <summary>Disks of a predecessor's pool: their machines died with it.</summary>
    private void PreparePools()
    {
        if (Directory.Exists(PoolDirectory))
        {
            Directory.Delete(PoolDirectory, recursive: true);
        }

        HostDirectories.CreatePassable(PoolDirectory);
    }

    /// <summary>A warm machine for a new session, or <see langword="null"/>.</summary>
    private async Task<IMicroVm?> TryClaimAsync(LiveMicroVm machine, string image, string disk, string hostname, CancellationToken cancellationToken)
    {
        var start = machine.Start;
        if (!_pools.TryGetValue((start.Backend, start.Template), out var pool)
            || pool.ImageDirectory != image
            || !pool.Fits(start.Vcpus, start.MemoryMiB, start.DiskMiB))
        {
            return null;
        }

        pool.NoteArrival();
        return await pool.ClaimAsync(new MicroVmClaim(start.SessionId, start.Generation, hostname, disk), vm => machine.ClaimedVmId = vm.Owner.VmId, cancellationToken);
    }

    private async Task AdjustPoolsAsync(CancellationToken cancellationToken)
    {
        if (_options.WarmPoolCeiling <= 0)
        {
            return;
        }

        foreach (var (backend, image, directory) in Startable().Where(c => c.Backend.Capabilities.WarmPool && IsUsable(c.Backend) && !_poolFailed.Contains(KeyOf(c.Backend, c.Directory))))
        {
            try
            {
                await AdjustPoolAsync(backend, image, directory, cancellationToken);
            }
            catch (Exception e) when (!cancellationToken.IsCancellationRequested)
            {
                // One template's trouble is not the others'.
                _poolFailed.Add(KeyOf(backend, directory));
                _logger.LogWarning(e, "The warm pool of template {Template} cannot be kept; its sessions are cloned when they come", image.Template);
            }
        }
    }

    private async Task AdjustPoolAsync(IIsolationBackend backend, TemplateImage image, string directory, CancellationToken cancellationToken)
    {
        var key = (backend.Name, image.Template);
        if (_pools.TryGetValue(key, out var pool) && pool.ImageDirectory != directory)
        {
            _pools.TryRemove(key, out _);
            await pool.DisposeAsync();
            pool = null;
        }

        if (pool is null)
        {
            if (backend.Capabilities.GoldenSnapshot && await backend.FindGoldenAsync(directory, image.Sizes, cancellationToken) is null)
            {
                return;
            }

            _pools[key] = pool = new WarmPool(backend, PatternOf(image, directory), PoolDirectory, _clock, _logger);
        }

        // A claim, a clone or a boot that is under way has the processors first.
        while (_starts.CurrentCount == _options.EffectiveConcurrentStarts
            && !_draining
            && await pool.AdjustAsync(IsFirstChoice(backend, image) ? _options.WarmPoolFloor : 0, _options.WarmPoolCeiling, RoomFor(pool), cancellationToken))
        {
        }
    }

    private bool IsUsable(IIsolationBackend backend)
    {
        lock (_gate)
        {
            return _verdicts.GetValueOrDefault(backend.Name)?.Usable == true;
        }
    }

    /// <summary>Whether sessions that name no backend get this one. Others keep machines ready only while sessions ask for them.</summary>
    private bool IsFirstChoice(IIsolationBackend backend, TemplateImage image)
    {
        lock (_gate)
        {
            return BackendMatch.Best(_backends.Values.Select(Describe).Where(b => b.Usable && b.ImageKind == image.Kind))?.Name == backend.Name;
        }
    }

    /// <summary>How many machines of a pool fit beside what is leased; sessions have precedence.</summary>
    private int RoomFor(WarmPool pool)
    {
        lock (_gate)
        {
            var memory = (_options.EffectiveMemoryMiB - LeasedMiB()) / Math.Max(1, pool.MemoryMiB);
            return Math.Max(0, Math.Min(memory, _options.EffectiveMaxMicroVms - _leases.Count));
        }
    }

    private static MicroVmSpec PatternOf(TemplateImage image, string directory) => new()
    {
        Owner = new MicroVmOwner("pool", "", 0),
        ImageDirectory = directory,
        Vcpus = image.Sizes.Vcpus,
        MemoryMiB = image.Sizes.MemoryMiB,
        DiskMiB = image.Sizes.DiskMiB,
        DiskPath = "",
        Hostname = "sandbox",
    };
}
