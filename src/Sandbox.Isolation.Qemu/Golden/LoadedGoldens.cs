using System.Collections.Concurrent;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Golden;
using Sandbox.Isolation.Qemu.Memory;

namespace Sandbox.Isolation.Qemu.Golden;

/// <summary>The golden snapshots that machines of this process came from, each in memory once: every clone shares it.</summary>
internal sealed class LoadedGoldens
{
    private readonly ConcurrentDictionary<string, Lazy<Task<LoadedGolden>>> _loaded = new(StringComparer.Ordinal);

    /// <summary>The snapshot in memory. A load that fails is tried again by the next caller.</summary>
    public async Task<LoadedGolden> LoadAsync(GoldenSnapshot golden, CancellationToken cancellationToken)
    {
        var key = golden.Directory + golden.BuiltAt.UtcTicks;
        var loading = _loaded.GetOrAdd(key, _ => new Lazy<Task<LoadedGolden>>(() => Task.Run(() => new LoadedGolden(
            golden.Id,
            SealedMemory.Load("sandbox-golden", Path.Combine(golden.Directory, GoldenContent.Memory)),
            File.ReadAllBytes(Path.Combine(golden.Directory, GoldenContent.Devices)),
            File.OpenHandle(Path.Combine(golden.Directory, GoldenContent.Disk))))));
        try
        {
            return await loading.Value.WaitAsync(cancellationToken);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            _loaded.TryRemove(new KeyValuePair<string, Lazy<Task<LoadedGolden>>>(key, loading));
            throw;
        }
    }
}

/// <summary>A golden snapshot as clones use it, and as saved machines are compared with it.</summary>
/// <param name="Id">See <see cref="GoldenSnapshot.Id"/>.</param>
/// <param name="Memory">Its memory.</param>
/// <param name="Devices">State of CPU and devices.</param>
/// <param name="Disk">Its disk, open for reading: it is there as long as machines that began with it.</param>
internal sealed record LoadedGolden(string Id, SealedMemory Memory, byte[] Devices, SafeFileHandle Disk);
