using System.Security.Cryptography;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Sandbox.Isolation.Backends;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Keys;
using Xunit;

namespace Sandbox.Snapshots.Tests;

public sealed class SnapshotStoreTests : IDisposable
{
    private readonly TempDirectory _directory = new();
    private readonly FakeTimeProvider _clock = new(DateTimeOffset.UtcNow);
    private readonly FaultyBlobStore _blobs;
    private string _tenant = "tenant one";
    private readonly SnapshotStore _store;

    public SnapshotStoreTests()
    {
        _blobs = new FaultyBlobStore(new FileBlobStore(_directory.Path), _clock);
        _store = StoreWith(new MasterKeyProvider(RandomNumberGenerator.GetBytes(32)));
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task What_was_saved_is_restored()
    {
        for (var seed = 0; seed < 20; seed++)
        {
            var machine = SavedMachine.Random(seed, pages: seed * 50, blocks: seed);
            await SaveAsync($"s{seed}", machine, seed > 0 ? $"s{seed - 1}" : null);

            Assert.True(machine.Same(await RestoreAsync($"s{seed}")), $"seed {seed}");
        }
    }

    [Fact]
    public async Task Files_and_facts_come_back()
    {
        var big = RandomNumberGenerator.GetBytes((3 << 20) + 17);
        using (var writer = await _store.BeginAsync(new(_tenant, "files", "ses-1", null), Token))
        {
            await writer.WriteFileAsync("memo.json", new MemoryStream("{}"u8.ToArray()), Token);
            await writer.WriteFileAsync("log", new MemoryStream(big), Token);
            await writer.WriteFileAsync("empty", new MemoryStream(), Token);
            await Assert.ThrowsAsync<ArgumentException>(() => writer.WriteFileAsync("log", new MemoryStream(), Token));
            await writer.CommitAsync(Token);
        }

        using var reader = await _store.OpenAsync(_tenant, "files", Token);
        var log = new MemoryStream();
        await reader.ReadFileAsync("log", log, Token);
        var empty = new MemoryStream();
        await reader.ReadFileAsync("empty", empty, Token);

        Assert.Equal(["memo.json", "log", "empty"], reader.Info.Files);
        Assert.Equal(("ses-1", _clock.GetUtcNow()), (reader.Info.SessionId, reader.Info.CreatedAt));
        Assert.Equal(big, log.ToArray());
        Assert.Equal(0, empty.Length);
        Assert.Equal(SnapshotErrorKind.NotFound, (await Assert.ThrowsAsync<SnapshotException>(() => reader.ReadFileAsync("none", empty, Token))).Kind);
    }

    [Fact]
    public async Task A_second_snapshot_stores_only_what_changed()
    {
        var machine = SavedMachine.Random(1, pages: 3000, blocks: 50);
        var first = await SaveAsync("first", machine);
        machine.Memory[machine.Memory.Keys.First()] = RandomNumberGenerator.GetBytes(MachineBlock.MemoryBlock);

        var second = await SaveAsync("second", machine, "first");
        await _store.DeleteAsync(_tenant, "first", Token);

        Assert.True(second.StoredBytes <= 33 * MachineBlock.MemoryBlock, $"{second.StoredBytes} bytes");
        Assert.True(first.StoredBytes > 8 << 20, $"{first.StoredBytes} bytes");
        Assert.True(machine.Same(await RestoreAsync("second")));
    }

    [Fact]
    public async Task Zeros_cost_next_to_nothing()
    {
        var machine = SavedMachine.Random(1, pages: 0, blocks: 0);
        for (var page = 0; page < SavedMachine.MemoryPages; page++)
        {
            machine.Memory[page] = [];
        }

        var info = await SaveAsync("zeros", machine);

        Assert.True(info.StoredBytes < 150_000, $"{info.StoredBytes} bytes, of which devices and the last disk block are 135,000");
        Assert.Equal(SavedMachine.MemoryPages, (await RestoreAsync("zeros")).Memory.Count);
    }

    [Fact]
    public async Task Nothing_in_the_store_shows_what_is_saved_or_whose_it_is()
    {
        using (var writer = await _store.BeginAsync(new(_tenant, "secret", "ses-secret", null), Token))
        {
            await writer.WriteFileAsync("secretname", new MemoryStream("secretcontent"u8.ToArray()), Token);
            await writer.CommitAsync(Token);
        }

        foreach (var file in Directory.EnumerateFiles(_directory.Path, "*", SearchOption.AllDirectories))
        {
            var text = System.Text.Encoding.Latin1.GetString(File.ReadAllBytes(file)) + Path.GetDirectoryName(file);
            foreach (var word in (string[])["secretname", "secretcontent", "ses-secret", "tenant one"])
            {
                Assert.DoesNotContain(word, text, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    public async Task A_byte_changed_anywhere_is_noticed_and_the_older_snapshot_is_still_good()
    {
        var older = SavedMachine.Random(1);
        await SaveAsync("older", older);
        await SaveAsync("newer", SavedMachine.Random(2), "older");
        foreach (var file in Directory.EnumerateFiles(_directory.Path, "newer*", SearchOption.AllDirectories).Where(f => !f.Contains("intents", StringComparison.Ordinal)).ToList())
        {
            var whole = File.ReadAllBytes(file);
            foreach (var at in (int[])[0, 12, 28, whole.Length / 2, whole.Length - 1])
            {
                var damaged = (byte[])whole.Clone();
                damaged[at] ^= 1;
                await DamagedAsync(file, damaged);
            }

            await DamagedAsync(file, whole[..^1]);
            await DamagedAsync(file, []);
            File.WriteAllBytes(file, whole);
        }

        Assert.True(older.Same(await RestoreAsync("older")));

        async Task DamagedAsync(string file, byte[] content)
        {
            File.WriteAllBytes(file, content);
            var error = await Assert.ThrowsAsync<SnapshotException>(async () =>
            {
                using var reader = await _store.OpenAsync(_tenant, "newer", Token);
                await reader.VerifyAsync(Token);
            });
            Assert.Equal(SnapshotErrorKind.Corrupt, error.Kind);
            Assert.Contains("newer", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task A_missing_pack_is_named()
    {
        await SaveAsync("gone", SavedMachine.Random(1));
        File.Delete(Directory.EnumerateFiles(_directory.Path, "gone.0", SearchOption.AllDirectories).Single());

        var error = await Assert.ThrowsAsync<SnapshotException>(() => RestoreAsync("gone"));

        Assert.Equal(SnapshotErrorKind.Corrupt, error.Kind);
        Assert.Contains("Snapshot gone of session ses-1", error.Message, StringComparison.Ordinal);
        Assert.Contains("missing", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Another_tenant_and_another_key_read_nothing()
    {
        await SaveAsync("mine", SavedMachine.Random(1));
        Assert.Null(await _store.FindAsync("tenant two", "mine", Token));

        var error = await Assert.ThrowsAsync<SnapshotException>(() => StoreWith(new MasterKeyProvider(RandomNumberGenerator.GetBytes(32))).OpenAsync(_tenant, "mine", Token));
        Assert.Equal(SnapshotErrorKind.Corrupt, error.Kind);
    }

    [Fact]
    public async Task A_manifest_in_the_place_of_another_is_refused()
    {
        await SaveAsync("one", SavedMachine.Random(1));
        await SaveAsync("two", SavedMachine.Random(2));
        var file = Directory.EnumerateFiles(_directory.Path, "one", SearchOption.AllDirectories).Single(f => f.Contains("snapshots/", StringComparison.Ordinal) && !f.Contains("intents", StringComparison.Ordinal));
        File.Copy(file, Path.Combine(Path.GetDirectoryName(file)!, "two"), overwrite: true);

        Assert.Equal(SnapshotErrorKind.Corrupt, (await Assert.ThrowsAsync<SnapshotException>(() => RestoreAsync("two"))).Kind);
    }

    [Fact]
    public async Task An_id_is_used_once()
    {
        await SaveAsync("once", SavedMachine.Random(1));

        Assert.Equal(SnapshotErrorKind.AlreadyExists, (await Assert.ThrowsAsync<SnapshotException>(() => SaveAsync("once", SavedMachine.Random(2)))).Kind);
        await Assert.ThrowsAsync<ArgumentException>(() => _store.BeginAsync(new(_tenant, "../once", "ses-1", null), Token));
    }

    [Fact]
    public async Task A_write_that_took_too_long_is_given_up()
    {
        using var writer = await _store.BeginAsync(new(_tenant, "slow", "ses-1", null), Token);
        await writer.WriteFileAsync("f", new MemoryStream([1]), Token);
        _clock.Advance(SnapshotStore.LongestWrite + TimeSpan.FromMinutes(1));

        Assert.Equal(SnapshotErrorKind.Expired, (await Assert.ThrowsAsync<SnapshotException>(() => writer.CommitAsync(Token))).Kind);
        Assert.Null(await _store.FindAsync(_tenant, "slow", Token));
    }

    [Fact]
    public async Task Blocks_out_of_order_or_beyond_the_machine_are_refused()
    {
        using var writer = await _store.BeginAsync(new(_tenant, "bad", "ses-1", null), Token);
        await writer.BeginAsync(SavedMachine.Facts, Token);
        await writer.WriteMemoryAsync(new MachineBlock(5, new byte[4096]), Token);

        await Assert.ThrowsAsync<ArgumentException>(async () => await writer.WriteMemoryAsync(new MachineBlock(5, new byte[4096]), Token));
        await Assert.ThrowsAsync<ArgumentException>(async () => await writer.WriteMemoryAsync(new MachineBlock(SavedMachine.MemoryPages, new byte[4096]), Token));
        await Assert.ThrowsAsync<ArgumentException>(async () => await writer.WriteMemoryAsync(new MachineBlock(6, new byte[4097]), Token));
        await Assert.ThrowsAsync<InvalidOperationException>(() => writer.CommitAsync(Token));
    }

    [Fact]
    public async Task Collection_removes_what_was_deleted_or_never_finished_and_nothing_else()
    {
        var kept = SavedMachine.Random(2);
        var deleted = await SaveAsync("deleted", SavedMachine.Random(1));
        await SaveAsync("kept", kept);
        await AbandonAsync("abandoned", SavedMachine.Random(3));
        await _store.DeleteAsync(_tenant, "deleted", Token);

        Assert.Equal(0, await _store.CollectAsync(_tenant, Token));
        _clock.Advance(SnapshotStore.IntentLife + TimeSpan.FromMinutes(1));
        var freed = await _store.CollectAsync(_tenant, Token);

        Assert.True(freed > deleted.StoredBytes, $"{freed} bytes freed");
        Assert.Equal(["kept.0"], PacksNow());
        Assert.Equal(0, await _store.CollectAsync(_tenant, Token));
        Assert.True(kept.Same(await RestoreAsync("kept")));
    }

    [Fact]
    public async Task Nothing_is_collected_while_a_manifest_cannot_be_read()
    {
        await SaveAsync("broken", SavedMachine.Random(1));
        _clock.Advance(SnapshotStore.IntentLife + TimeSpan.FromMinutes(1));
        File.WriteAllBytes(Directory.EnumerateFiles(_directory.Path, "broken", SearchOption.AllDirectories).Single(f => !f.Contains("intents", StringComparison.Ordinal)), [1, 2, 3]);

        Assert.Equal(SnapshotErrorKind.Corrupt, (await Assert.ThrowsAsync<SnapshotException>(() => _store.CollectAsync(_tenant, Token))).Kind);
        Assert.Equal(["broken.0"], PacksNow());
    }

    [Fact]
    public async Task Collection_leaves_alone_what_is_not_its_own()
    {
        await SaveAsync("kept", SavedMachine.Random(1));
        var packs = Path.GetRelativePath(_directory.Path, Directory.EnumerateDirectories(_directory.Path, "packs", SearchOption.AllDirectories).Single());
        await _blobs.PutAsync(packs + "/README", new byte[1], Token);
        _clock.Advance(SnapshotStore.IntentLife + TimeSpan.FromMinutes(1));

        Assert.Equal(0, await _store.CollectAsync(_tenant, Token));
        Assert.Single(Directory.EnumerateFiles(_directory.Path, "README", SearchOption.AllDirectories));
    }

    /// <summary>Whatever a writer is doing, and wherever between its steps a collection runs and its parent is deleted, what it commits can be read.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_collection_at_any_moment_of_a_write_loses_nothing(bool deleteParent)
    {
        for (var moment = 0; ; moment++)
        {
            var machine = await OldParentAsync(moment);
            machine.Memory[7] = RandomNumberGenerator.GetBytes(MachineBlock.MemoryBlock);
            var happened = await AtMomentAsync(
                moment,
                () => SaveAsync("child", machine, "parent"),
                async () =>
                {
                    if (deleteParent)
                    {
                        await _store.DeleteAsync(_tenant, "parent", Token);
                    }

                    await _store.CollectAsync(_tenant, Token);
                });
            await _store.CollectAsync(_tenant, Token);

            Assert.True(machine.Same(await RestoreAsync("child")), $"moment {moment}");
            if (!happened)
            {
                Assert.True(moment > 3, "every step was a moment");
                return;
            }
        }
    }

    /// <summary>The other way round: whatever a collection is doing, a whole write, with the deletion of its parent, happens between two of its steps.</summary>
    [Fact]
    public async Task A_write_at_any_moment_of_a_collection_loses_nothing()
    {
        for (var moment = 0; ; moment++)
        {
            var machine = await OldParentAsync(moment);
            machine.Memory[7] = RandomNumberGenerator.GetBytes(MachineBlock.MemoryBlock);
            var happened = await AtMomentAsync(
                moment,
                () => _store.CollectAsync(_tenant, Token),
                async () =>
                {
                    await SaveAsync("child", machine, "parent");
                    await _store.DeleteAsync(_tenant, "parent", Token);
                });
            if (!happened)
            {
                Assert.True(moment > 3, "every step was a moment");
                return;
            }

            await _store.CollectAsync(_tenant, Token);
            Assert.True(machine.Same(await RestoreAsync("child")), $"moment {moment}");
        }
    }

    /// <summary>A process that dies before any of its changes leaves either the whole snapshot or none, and what it left is collected.</summary>
    [Fact]
    public async Task A_crash_at_any_moment_leaves_a_whole_snapshot_or_none()
    {
        var parent = SavedMachine.Random(1);
        await SaveAsync("parent", parent);
        for (var moment = 0; ; moment++)
        {
            var step = 0;
            _blobs.Before = (operation, _) => operation == "put" && step++ == moment ? throw new IOException("the process died") : Task.CompletedTask;
            var machine = SavedMachine.Random(moment + 2);
            var died = false;
            try
            {
                await SaveAsync($"crash{moment}", machine, "parent");
            }
            catch (IOException)
            {
                died = true;
            }

            _blobs.Before = null;
            Assert.Equal(died, await _store.FindAsync(_tenant, $"crash{moment}", Token) is null);
            if (!died)
            {
                Assert.True(machine.Same(await RestoreAsync($"crash{moment}")));
                break;
            }
        }

        _clock.Advance(SnapshotStore.IntentLife + TimeSpan.FromMinutes(1));
        await _store.CollectAsync(_tenant, Token);
        Assert.Equal(2, PacksNow().Count);
        Assert.True(parent.Same(await RestoreAsync("parent")));
    }

    private SnapshotStore StoreWith(IKeyProvider keys) => new(_blobs, keys, _clock, NullLogger<SnapshotStore>.Instance);

    /// <summary>A parent whose intent has expired, in a store of its own: what earlier moments left would add moments without end.</summary>
    private async Task<SavedMachine> OldParentAsync(int moment)
    {
        _tenant = $"tenant {moment}";
        var machine = SavedMachine.Random(moment);
        await SaveAsync("parent", machine);
        _clock.Advance(SnapshotStore.IntentLife + TimeSpan.FromMinutes(1));
        return machine;
    }

    /// <summary>Does one thing, and before its step of that number another. False: it had fewer steps, and the other did not happen.</summary>
    private async Task<bool> AtMomentAsync(int moment, Func<Task> one, Func<Task> other)
    {
        var step = 0;
        var happened = false;
        _blobs.Before = async (_, _) =>
        {
            if (step++ == moment)
            {
                happened = true;
                _blobs.Before = null;
                await other();
            }
        };
        await one();
        _blobs.Before = null;
        return happened;
    }

    private async Task<SnapshotInfo> SaveAsync(string id, SavedMachine machine, string? parent = null)
    {
        using var writer = await _store.BeginAsync(new(_tenant, id, "ses-1", parent), Token);
        await machine.SaveAsync(writer, Token);
        return await writer.CommitAsync(Token);
    }

    private async Task AbandonAsync(string id, SavedMachine machine)
    {
        _blobs.Before = (operation, name) => operation == "put" && name.Contains("/snapshots/", StringComparison.Ordinal) ? throw new IOException("the process died") : Task.CompletedTask;
        await Assert.ThrowsAsync<IOException>(() => SaveAsync(id, machine));
        _blobs.Before = null;
    }

    private async Task<SavedMachine> RestoreAsync(string id)
    {
        using var reader = await _store.OpenAsync(_tenant, id, Token);
        Assert.Equal(SavedMachine.Facts, reader.Facts);
        return await SavedMachine.LoadAsync(reader, Token);
    }

    private List<string> PacksNow() => [.. Directory.EnumerateFiles(_directory.Path, "*.*", SearchOption.AllDirectories).Where(f => f.Contains("/packs/", StringComparison.Ordinal)).Select(f => Path.GetFileName(f))];
}
