using System.Text.Json;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Golden;

/// <summary>
/// Golden snapshots of this machine, each in <c>golden/&lt;fingerprint&gt;</c> below its image, so that all servers on the machine share them and they go when the image goes. Those of other
/// hosts, which saved machines are differences from, are beside, in <c>golden/&lt;fingerprint&gt;-&lt;id&gt;</c>. A directory is made under another name and takes its own last: one that is there is whole.
/// </summary>
public sealed class GoldenStore(ILogger logger)
{
    private const string Manifest = "golden.json";

    /// <summary>This host's own snapshot with a fingerprint, or <see langword="null"/>.</summary>
    public GoldenSnapshot? Find(string imageDirectory, string fingerprint) => Read(fingerprint, Path.Combine(Root(imageDirectory), fingerprint));

    /// <summary>The snapshot with a fingerprint and an id, of whatever host, or <see langword="null"/>.</summary>
    public GoldenSnapshot? Find(string imageDirectory, string fingerprint, string id) =>
        Find(imageDirectory, fingerprint) is { } own && own.Id == id ? own
            : IsId(id) && Read(fingerprint, Path.Combine(Root(imageDirectory), $"{fingerprint}-{id}")) is { } other && other.Id == id ? other
            : null;

    /// <summary>Whether something may be an id, and so a part of a path.</summary>
    public static bool IsId(string id) => id.Length == 64 && id.All(char.IsAsciiHexDigitLower);

    private GoldenSnapshot? Read(string fingerprint, string directory)
    {
        try
        {
            var facts = JsonSerializer.Deserialize<GoldenFacts>(File.ReadAllBytes(Path.Combine(directory, Manifest)));
            return facts is { Id: not null } ? new GoldenSnapshot(fingerprint, facts.Id, directory, facts.BuiltAt, facts.MemoryBytes) : null;
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
    /// <param name="fingerprint">Fingerprint of the snapshot.</param>
    /// <param name="id">What its content must be, for one of another host; <see langword="null"/> for this host's own.</param>
    /// <param name="save">Writes memory, devices and disk into a directory.</param>
    /// <param name="cancellationToken">Ends the wait, or the making.</param>
    public async Task<GoldenSnapshot> BuildAsync(string imageDirectory, string fingerprint, string? id, Func<string, CancellationToken, Task> save, CancellationToken cancellationToken)
    {
        var root = Root(imageDirectory);
        Directory.CreateDirectory(root);
        await using var turn = await ExclusiveFile.AcquireAsync(Path.Combine(root, ".lock"), null, cancellationToken);
        if ((id is null ? Find(imageDirectory, fingerprint) : Find(imageDirectory, fingerprint, id)) is { } made)
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
            await save(partial, cancellationToken);
            var (content, bytes) = await Task.Run(() => GoldenContent.Measure(partial), cancellationToken);
            if (id is not null && id != content)
            {
                throw new IsolationException($"The golden snapshot {id} of another host was not taken: what came is {content}. Its copy in the store is damaged.");
            }

            File.WriteAllBytes(Path.Combine(partial, Manifest), JsonSerializer.SerializeToUtf8Bytes(new GoldenFacts(content, DateTimeOffset.UtcNow, bytes)));
            var directory = Path.Combine(root, id is null ? fingerprint : $"{fingerprint}-{id}");
            if (Directory.Exists(directory))
            {
                Directory.Delete(directory, recursive: true);
            }

            Directory.Move(partial, directory);
            return Read(fingerprint, directory) ?? throw new IsolationException($"The golden snapshot of {imageDirectory} was made and cannot be read.");
        }
        catch
        {
            if (Directory.Exists(partial))
            {
                Directory.Delete(partial, recursive: true);
            }

            throw;
        }
    }

    private static string Root(string imageDirectory) => Path.Combine(imageDirectory, "golden");

    private sealed record GoldenFacts(string Id, DateTimeOffset BuiltAt, long MemoryBytes);
}
