using System.Security.Cryptography;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Keys;
using Xunit;

namespace Sandbox.Snapshots.Tests;

/// <summary>Snapshots made out of others: what a fork begins with.</summary>
public sealed class SnapshotCopyTests : IDisposable
{
    private readonly TempDirectory _directory = new();
    private readonly FakeTimeProvider _clock = new(DateTimeOffset.UtcNow);
    private readonly FaultyBlobStore _blobs;
    private readonly SnapshotStore _store;
    private string _tenant = "tenant one";

    public SnapshotCopyTests()
    {
        _blobs = new FaultyBlobStore(new FileBlobStore(_directory.Path), _clock);
        _store = new SnapshotStore(_blobs, new MasterKeyProvider(RandomNumberGenerator.GetBytes(32)), _clock, NullLogger<SnapshotStore>.Instance);
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task A_copy_stores_no_chunks_and_outlives_its_source_and_a_collection()
    {
        var machine = await SaveAsync("source", 1);
        var info = await CopyAsync("source", "copy");
        Assert.Equal(("copy", "ses-2", "source", 0L), (info.SnapshotId, info.SessionId, info.ParentId, info.StoredBytes));

        await _store.DeleteAsync(_tenant, "source", Token);
        await CollectLaterAsync();

        Assert.True(machine.Same(await RestoreAsync("copy")));
        await _store.DeleteAsync(_tenant, "copy", Token);
        await CollectLaterAsync();
        Assert.DoesNotContain(Directory.EnumerateFiles(_directory.Path, "*", SearchOption.AllDirectories), f => f.Contains("/packs/", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_source_outlives_its_copy()
    {
        var machine = await SaveAsync("source", 1);
        await CopyAsync("source", "copy");
        await _store.DeleteAsync(_tenant, "copy", Token);
        await CollectLaterAsync();

        Assert.True(machine.Same(await RestoreAsync("source")));
    }

    [Fact]
    public async Task A_repeated_call_finds_the_copy_even_when_the_source_is_gone()
    {
        var machine = await SaveAsync("source", 1);
        var first = await CopyAsync("source", "copy");
        await _store.DeleteAsync(_tenant, "source", Token);

        Assert.Equal(first, await CopyAsync("source", "copy"), (one, other) => (one.SnapshotId, one.SessionId, one.CreatedAt) == (other.SnapshotId, other.SessionId, other.CreatedAt));
        Assert.True(machine.Same(await RestoreAsync("copy")));
    }

    [Fact]
    public async Task A_missing_source_is_said_and_leaves_no_copy()
    {
        Assert.Equal(SnapshotErrorKind.NotFound, (await Assert.ThrowsAsync<SnapshotException>(() => CopyAsync("none", "copy"))).Kind);
        Assert.Null(await _store.FindAsync(_tenant, "copy", Token));
        await Assert.ThrowsAsync<ArgumentException>(() => CopyAsync("../none", "copy"));
        await Assert.ThrowsAsync<ArgumentException>(() => CopyAsync("none", "../copy"));
    }

    /// <summary>A call that died at any step can be repeated, and comes to its end.</summary>
    [Fact]
    public async Task A_copy_that_was_cut_off_is_made_by_the_next_call()
    {
        var machine = await SaveAsync("source", 1);
        for (var moment = 0; ; moment++)
        {
            var step = 0;
            _blobs.Before = (operation, _) => operation == "put" && step++ == moment ? throw new IOException("the process died") : Task.CompletedTask;
            var died = false;
            try
            {
                await CopyAsync("source", $"copy{moment}");
            }
            catch (IOException)
            {
                died = true;
            }

            _blobs.Before = null;
            await CopyAsync("source", $"copy{moment}");
            Assert.True(machine.Same(await RestoreAsync($"copy{moment}")), $"moment {moment}");
            if (!died)
            {
                Assert.Equal(2, moment);
                return;
            }
        }
    }

    /// <summary>Whenever the source is deleted and a collection runs, there is a whole copy or none.</summary>
    [Fact]
    public async Task A_collection_at_any_moment_of_a_copy_loses_nothing()
    {
        for (var moment = 0; ; moment++)
        {
            _tenant = $"tenant {moment}";
            var machine = await SaveAsync("source", moment);
            _clock.Advance(SnapshotStore.IntentLife + TimeSpan.FromMinutes(1));
            var step = 0;
            var happened = false;
            _blobs.Before = async (_, _) =>
            {
                if (step++ == moment)
                {
                    happened = true;
                    _blobs.Before = null;
                    await _store.DeleteAsync(_tenant, "source", Token);
                    await _store.CollectAsync(_tenant, Token);
                }
            };
            var made = true;
            try
            {
                await CopyAsync("source", "copy");
            }
            catch (SnapshotException e) when (e.Kind == SnapshotErrorKind.NotFound)
            {
                made = false;
            }

            _blobs.Before = null;
            await _store.CollectAsync(_tenant, Token);
            Assert.True(made ? machine.Same(await RestoreAsync("copy")) : await _store.FindAsync(_tenant, "copy", Token) is null, $"moment {moment}");
            if (!happened)
            {
                Assert.True(made && moment > 2, "every step was a moment");
                return;
            }
        }
    }

    private Task<SnapshotInfo> CopyAsync(string source, string copy) => _store.CopyAsync(_tenant, source, copy, "ses-2", Token);

    private async Task<SavedMachine> SaveAsync(string id, int seed)
    {
        var machine = SavedMachine.Random(seed);
        using var writer = await _store.BeginAsync(new(_tenant, id, "ses-1", null), Token);
        await machine.SaveAsync(writer, Token);
        await writer.CommitAsync(Token);
        return machine;
    }

    private async Task<SavedMachine> RestoreAsync(string id)
    {
        using var reader = await _store.OpenAsync(_tenant, id, Token);
        return await SavedMachine.LoadAsync(reader, Token);
    }

    private async Task CollectLaterAsync()
    {
        _clock.Advance(SnapshotStore.IntentLife + TimeSpan.FromMinutes(1));
        await _store.CollectAsync(_tenant, Token);
    }
}
