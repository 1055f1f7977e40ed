using CsCheck;
using Orleans.Storage;
using Sandbox.Storage.TestSilo;
using Xunit;

namespace Sandbox.Storage.Tests;

/// <summary>What grains rely on, of whichever store: nothing is lost, and nobody overwrites what they have not seen.</summary>
public abstract class GrainStorageContract
{
    private static int _serial;

    private protected abstract Task<StoreHost> StartAsync(string service = "storage-test");

    /// <summary>Makes removals look as if they were as old as this.</summary>
    protected abstract Task AgeAsync(TimeSpan age);

    /// <summary>How many rows there are, empty ones included.</summary>
    protected abstract Task<long> CountRowsAsync();

    [Fact]
    public async Task State_that_was_never_written_is_new()
    {
        await using var store = await StartAsync();

        var state = await store.ReadAsync(NewGrain());

        Assert.False(state.RecordExists);
        Assert.Null(state.ETag);
        Assert.NotNull(state.State);
    }

    [Fact]
    public async Task State_survives_a_restart()
    {
        var grain = NewGrain();
        await using (var store = await StartAsync())
        {
            var first = await store.WriteAsync(grain, 1, null);
            await store.WriteAsync(grain, 2, first.ETag);
        }

        await using var again = await StartAsync();
        var state = await again.ReadAsync(grain);

        Assert.Equal(2, state.State!.Number);
        Assert.True(state.RecordExists);
        Assert.Equal(3, (await again.WriteAsync(grain, 3, state.ETag)).State!.Number);
    }

    [Fact]
    public async Task A_write_after_somebody_elses_is_refused_and_changes_nothing()
    {
        await using var store = await StartAsync();
        var grain = NewGrain();
        var mine = await store.WriteAsync(grain, 1, null);
        await store.WriteAsync(grain, 2, mine.ETag);

        await Assert.ThrowsAsync<InconsistentStateException>(() => store.WriteAsync(grain, 3, mine.ETag));

        Assert.Equal(2, (await store.ReadAsync(grain)).State!.Number);
    }

    [Fact]
    public async Task Two_that_believe_a_grain_is_new_cannot_both_create_it()
    {
        await using var store = await StartAsync();
        var grain = NewGrain();
        await store.WriteAsync(grain, 1, null);

        await Assert.ThrowsAsync<InconsistentStateException>(() => store.WriteAsync(grain, 2, null));

        Assert.Equal(1, (await store.ReadAsync(grain)).State!.Number);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Of_many_writers_at_once_one_wins(bool isNew)
    {
        await using var store = await StartAsync();
        var grain = NewGrain();
        var etag = isNew ? null : (await store.WriteAsync(grain, -1, null)).ETag;

        var wins = await Task.WhenAll(Enumerable.Range(0, 24).Select(n => Task.Run(async () =>
        {
            try
            {
                await store.WriteAsync(grain, n, etag);
                return n;
            }
            catch (InconsistentStateException)
            {
                return -1;
            }
        })));

        var winner = Assert.Single(wins, n => n >= 0);
        Assert.Equal(winner, (await store.ReadAsync(grain)).State!.Number);
    }

    [Fact]
    public async Task Cleared_state_is_new_again_and_keeps_late_writers_out()
    {
        await using var store = await StartAsync();
        var grain = NewGrain();
        var late = await store.WriteAsync(grain, 1, null);
        var state = await store.ReadAsync(grain);

        await store.Storage().ClearStateAsync("state", grain, state);

        Assert.False(state.RecordExists);
        Assert.Equal(0, state.State!.Number);
        await Assert.ThrowsAsync<InconsistentStateException>(() => store.WriteAsync(grain, 9, late.ETag));
        await Assert.ThrowsAsync<InconsistentStateException>(() => store.WriteAsync(grain, 9, null));
        var read = await store.ReadAsync(grain);
        Assert.False(read.RecordExists);
        Assert.Equal(0, read.State!.Number);
        await store.WriteAsync(grain, 5, read.ETag);
        Assert.Equal(5, (await store.ReadAsync(grain)).State!.Number);
    }

    [Fact]
    public async Task Clearing_what_somebody_else_has_changed_is_refused()
    {
        await using var store = await StartAsync();
        var grain = NewGrain();
        await store.WriteAsync(grain, 1, null);
        var stale = await store.ReadAsync(grain);
        await store.WriteAsync(grain, 2, stale.ETag);

        await Assert.ThrowsAsync<InconsistentStateException>(() => store.Storage().ClearStateAsync("state", grain, stale));

        Assert.Equal(2, (await store.ReadAsync(grain)).State!.Number);
    }

    [Fact]
    public async Task Rows_of_cleared_state_are_swept_after_a_week_and_not_before()
    {
        await using var store = await StartAsync();
        var grains = Enumerable.Range(0, 5).Select(_ => NewGrain()).ToArray();
        var states = new List<GrainState<CounterState>>();
        foreach (var grain in grains)
        {
            states.Add(await store.WriteAsync(grain, 1, null));
            await store.Storage().ClearStateAsync("state", grain, new GrainState<CounterState>(new(), states[^1].ETag) { RecordExists = true });
        }

        await AgeAsync(TimeSpan.FromDays(6));
        await ClearOneAsync();
        var young = await CountRowsAsync();
        await AgeAsync(TimeSpan.FromDays(8));
        await ClearOneAsync();

        // One more was cleared in between; the sweep took the older ones.
        Assert.True(await CountRowsAsync() <= young - grains.Length, $"{young} rows before, {await CountRowsAsync()} after");
        await Assert.ThrowsAsync<InconsistentStateException>(() => store.WriteAsync(grains[0], 9, states[0].ETag));

        async Task ClearOneAsync()
        {
            var grain = NewGrain();
            var state = await store.WriteAsync(grain, 1, null);
            state.RecordExists = true;
            await store.Storage().ClearStateAsync("state", grain, state);
        }
    }

    [Fact]
    public async Task Grains_states_providers_and_services_do_not_mix()
    {
        // Keys that are the same number or the same GUID are still different keys.
        var (number8, key) = (Random.Shared.Next(0x1000_0000, int.MaxValue), Guid.NewGuid().ToString("N"));
        string[] lookalikes = [$"{number8:x}", $"{number8:X}", $"0{number8:x}", new Guid(key).ToString("D")];
        await using var store = await StartAsync();
        await using var other = await StartAsync("another-service");
        var number = 0;
        var cells = new List<(StoreHost Store, GrainId Grain, string Name, int Number)>();
        foreach (var host in (StoreHost[])[store, other])
        {
            foreach (var grain in (GrainId[])[GrainId.Create("a", key), GrainId.Create("b", key), GrainId.Create("a", key + "x"), GrainId.Create("a", key.ToUpperInvariant()), .. lookalikes.Distinct().Select(k => GrainId.Create("a", k))])
            {
                foreach (var name in (string[])["state", "State", "states"])
                {
                    cells.Add((host, grain, name, ++number));
                }
            }
        }

        foreach (var cell in cells)
        {
            await cell.Store.WriteAsync(cell.Grain, cell.Number, null, cell.Name);
        }

        foreach (var cell in cells)
        {
            Assert.Equal(cell.Number, (await cell.Store.ReadAsync(cell.Grain, cell.Name)).State!.Number);
        }
    }

    [Fact]
    public async Task The_two_providers_do_not_mix()
    {
        await using var store = await StartAsync();
        var grain = NewGrain();

        await store.WriteAsync(grain, 1, null);
        await store.WriteAsync(grain, 2, null, provider: StorageProviders.PubSub);

        Assert.Equal(1, (await store.ReadAsync(grain)).State!.Number);
        Assert.Equal(2, (await store.ReadAsync(grain, provider: StorageProviders.PubSub)).State!.Number);
    }

    [Theory]
    [InlineData("'; DROP TABLE grain_state; --")]
    [InlineData("ключ/鍵/🗝")]
    [InlineData(" ")]
    [InlineData("@GrainIdHash $service %")]
    public async Task Keys_may_hold_anything(string key)
    {
        await using var store = await StartAsync();
        var grain = GrainId.Create("any", key + Guid.NewGuid());

        await store.WriteAsync(grain, 7, null);

        Assert.Equal(7, (await store.ReadAsync(grain)).State!.Number);
    }

    [Fact]
    public async Task Big_state_is_kept()
    {
        await using var store = await StartAsync();
        var grain = NewGrain();
        var bytes = new byte[4 << 20];
        new Random(1).NextBytes(bytes);
        await store.Storage().WriteStateAsync("big", grain, new GrainState<byte[]>(bytes));

        var read = new GrainState<byte[]>([]);
        await store.Storage().ReadStateAsync("big", grain, read);

        Assert.Equal(bytes, read.State);
    }

    [Fact]
    public async Task Any_order_of_operations_is_that_of_a_dictionary_with_versions()
    {
        await using var store = await StartAsync();
        var step = Gen.Select(Gen.Int[0, 2], Gen.Int[0, 3], Gen.Int[0, 1000]);

        // Each run has grains of its own. A client is a pair of grain and what it last saw of it.
        await step.Array[1, 25].SampleAsync(
            async steps =>
            {
                var grain = NewGrain();
                var clients = Enumerable.Range(0, 4).Select(_ => (GrainState<CounterState>?)null).ToArray();
                var seen = new long[4];
                (long Version, int Number) truth = (0, 0);
                foreach (var (operation, who, number) in steps)
                {
                    if (operation == 0 || clients[who] is not { } state)
                    {
                        clients[who] = await store.ReadAsync(grain);
                        seen[who] = truth.Version;
                        Assert.Equal(truth.Number, clients[who]!.State!.Number);
                        continue;
                    }

                    var fresh = seen[who] == truth.Version;
                    var changes = operation == 1 || state.RecordExists;
                    var attempt = new GrainState<CounterState>(new CounterState { Number = number }, state.ETag) { RecordExists = state.RecordExists };
                    var act = () => operation == 1 ? store.Storage().WriteStateAsync("state", grain, attempt) : store.Storage().ClearStateAsync("state", grain, attempt);
                    if (!changes)
                    {
                        continue;
                    }

                    if (!fresh)
                    {
                        await Assert.ThrowsAsync<InconsistentStateException>(act);
                        continue;
                    }

                    await act();
                    truth = (truth.Version + 1, operation == 1 ? number : 0);
                    seen[who] = truth.Version;
                    clients[who] = attempt;
                }

                Assert.Equal(truth.Number, (await store.ReadAsync(grain)).State!.Number);
            },
            iter: 60,
            threads: 2);
    }

    private static GrainId NewGrain() => GrainId.Create("thing", $"{Guid.NewGuid():N}-{Interlocked.Increment(ref _serial)}");
}
