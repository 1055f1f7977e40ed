using Sandbox.Snapshots.Blobs;

namespace Sandbox.Snapshots.Tests;

/// <summary>A store whose user dies before its n-th change, or that has something happen before one; its times are a test clock's.</summary>
internal sealed class FaultyBlobStore(IBlobStore inner, TimeProvider clock) : IBlobStore
{
    private readonly Dictionary<string, DateTimeOffset> _written = new(StringComparer.Ordinal);

    /// <summary>Called with each operation's name and blob before it happens; may throw.</summary>
    public Func<string, string, Task>? Before { get; set; }

    public async Task PutAsync(string name, ReadOnlyMemory<byte> data, CancellationToken cancellationToken)
    {
        await TellAsync("put", name);
        await inner.PutAsync(name, data, cancellationToken);
        _written[name] = clock.GetUtcNow();
    }

    public async Task<byte[]?> ReadAsync(string name, long offset, int? length, CancellationToken cancellationToken)
    {
        await TellAsync("read", name);
        return await inner.ReadAsync(name, offset, length, cancellationToken);
    }

    public async Task DeleteAsync(string name, CancellationToken cancellationToken)
    {
        await TellAsync("delete", name);
        await inner.DeleteAsync(name, cancellationToken);
    }

    public async IAsyncEnumerable<BlobInfo> ListAsync(string folder, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await TellAsync("list", folder);
        await foreach (var blob in inner.ListAsync(folder, cancellationToken))
        {
            yield return blob with { WrittenAt = _written[blob.Name] };
        }
    }

    private Task TellAsync(string operation, string name) => Before?.Invoke(operation, name) ?? Task.CompletedTask;
}
