using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Qemu.Golden;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>What machines of one backend have in common beside golden snapshots: memories of saved states, by name, and the means to map them.</summary>
internal sealed class MemorySharing(TimeSpan linger) : IAsyncDisposable
{
    private readonly SharedMemoryBases _bases = new(linger);
    private readonly MapperProcess _sources = new();
    private readonly MapperProcess _forks = new();

    /// <summary>For a machine that stands still meanwhile and is waited for: not behind the orders of a hundred forks.</summary>
    public LayerMapping ForSources => field ??= new LayerMapping(_sources);

    /// <summary>For machines that are being made.</summary>
    public LayerMapping ForForks => field ??= new LayerMapping(_forks);

    /// <summary>Has the memory of a state, which its machine is about to map itself, at hand for others.</summary>
    public SharedMemoryBases.Lease Offer(string state, SharedMemoryBase made) => _bases.Add(NameOf(made.Golden, state), made);

    /// <summary>The memory of a saved state: the one that is at hand, or one made for several. What is for one machine only would be written in vain to a memory that nobody shares.</summary>
    public async Task<SharedMemoryBases.Lease?> RentAsync(LoadedGolden golden, MachineRestore restore, CancellationToken cancellationToken) =>
        restore.StateName is not { } state ? null
        : restore.Siblings < 2 ? _bases.Find(NameOf(golden, state))
        : await _bases.RentAsync(NameOf(golden, state), ct => Task.Run(() => SharedMemoryBase.BuildAsync(golden, restore.Source, ct), ct), cancellationToken);

    public async ValueTask DisposeAsync()
    {
        await _sources.DisposeAsync();
        await _forks.DisposeAsync();
    }

    private static string NameOf(LoadedGolden golden, string state) => $"{golden.Id}/{state}";
}
