using System.Collections.Concurrent;
using System.Text.Json;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Qemu.Golden;

/// <summary>
/// Golden snapshots of this machine, each in <c>golden/&lt;fingerprint&gt;</c> below its image, so that all servers on the machine share them and they go when the image goes. A directory
/// is made under another name and takes its own last: one that is there is whole.
/// </summary>
internal sealed class GoldenStore(ILogger logger)
{
    public const string Memory = "memory";
    public const string Devices = "devices";
    public const string Disk = "disk.img";
    private const string Manifest = "golden.json";
    private readonly ConcurrentDictionary<string, Lazy<Task<LoadedGolden>>> _loaded = new(StringComparer.Ordinal);

    /// <summary>The snapshot with a fingerprint, or <see langword="null"/>.</summary>
    public GoldenSnapshot? Find(string imageDirectory, string fingerprint)
    {
        var directory = Path.Combine(Root(imageDirectory), fingerprint);
        try
        {
            var facts = JsonSerializer.Deserialize<GoldenFacts>(File.ReadAllBytes(Path.Combine(directory, Manifest)));
            return facts is null ? null : new GoldenSnapshot(fingerprint, fingerprint, directory, facts.BuiltAt, facts.MemoryBytes);
        }
        catch (Exception e) when (e is DirectoryNotFoundException or FileNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            logger.LogWarning(e, "The golden snapshot in {Directory} cannot be read; machines are booted", directory);
            return null;
        }
    }

    /// <summary>Makes one. Only one process of this machine does so at a time; the others wait and find it.</summary>
    /// <param name="imageDirectory">The image.</param>
    /// <param name="fingerprint">Name of the snapshot.</param>
    /// <param name="save">Writes memory, devices and disk into a directory and returns how much of the memory is not zero.</param>
    /// <param name="cancellationToken">Ends the wait, or the making.</param>
    public async Task<GoldenSnapshot> BuildAsync(string imageDirectory, string fingerprint, Func<string, CancellationToken, Task<long>> save, CancellationToken cancellationToken)
    {
        var root = Root(imageDirectory);
        Directory.CreateDirectory(root);
        await using var turn = await ExclusiveFile.AcquireAsync(Path.Combine(root, ".lock"), null, cancellationToken);
        if (Find(imageDirectory, fingerprint) is { } made)
        {
            return made;
        }

        foreach (var leftover in Directory.GetDirectories(root, "partial-*"))
        {
            // Only one process makes any, and that is this one now.
            Directory.Delete(leftover, recursive: true);
        }

        var partial = Path.Combine(root, "partial-" + fingerprint);
        Directory.CreateDirectory(partial);
        try
        {
            var bytes = await save(partial, cancellationToken);
            File.WriteAllBytes(Path.Combine(partial, Manifest), JsonSerializer.SerializeToUtf8Bytes(new GoldenFacts(DateTimeOffset.UtcNow, bytes)));
            var directory = Path.Combine(root, fingerprint);
            if (Directory.Exists(directory))
            {
                Directory.Delete(directory, recursive: true);
            }

            Directory.Move(partial, directory);
        }
        catch
        {
            Directory.Delete(partial, recursive: true);
            throw;
        }

        return Find(imageDirectory, fingerprint) ?? throw new IsolationException($"The golden snapshot of {imageDirectory} was made and cannot be read.");
    }

    /// <summary>The snapshot in memory, once for this process: every clone shares it.</summary>
    public async Task<LoadedGolden> LoadAsync(GoldenSnapshot golden, CancellationToken cancellationToken)
    {
        var key = golden.Directory + golden.BuiltAt.UtcTicks;
        var loading = _loaded.GetOrAdd(key, _ => new Lazy<Task<LoadedGolden>>(() => Task.Run(() => new LoadedGolden(
            SealedMemory.Load(Path.Combine(golden.Directory, Memory)), File.ReadAllBytes(Path.Combine(golden.Directory, Devices))))));
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

    private static string Root(string imageDirectory) => Path.Combine(imageDirectory, "golden");

    private sealed record GoldenFacts(DateTimeOffset BuiltAt, long MemoryBytes);
}

/// <summary>A golden snapshot as clones use it.</summary>
internal sealed record LoadedGolden(SealedMemory SealedMemory, byte[] Devices)
{
    /// <summary>Where QEMU opens the memory.</summary>
    public string MemoryPath => SealedMemory.Path;
}
