using CsCheck;
using Xunit;

namespace Sandbox.Storage.Tests;

/// <summary>What Orleans' reminder service relies on, of whichever table.</summary>
public abstract class ReminderTableContract
{
    private static readonly DateTime Start = new(2030, 1, 2, 3, 4, 5, 678, DateTimeKind.Utc);

    private protected abstract Task<StoreHost> StartAsync(string service = "storage-test");

    [Fact]
    public async Task A_reminder_is_read_back_as_it_was_written_also_after_a_restart()
    {
        var grain = NewGrain();
        string etag;
        await using (var store = await StartAsync())
        {
            etag = await store.UpsertAsync(Entry(grain, "wake", TimeSpan.FromMinutes(90)));
        }

        await using var again = await StartAsync();
        var read = (await again.Reminders.ReadRow(grain, "wake"))!;

        Assert.Equal(grain, read.GrainId);
        Assert.Equal("wake", read.ReminderName);
        Assert.Equal(Start, read.StartAt);
        Assert.Equal(DateTimeKind.Utc, read.StartAt.Kind);
        Assert.Equal(TimeSpan.FromMinutes(90), read.Period);
        Assert.Equal(etag, read.ETag);
    }

    [Fact]
    public async Task One_that_is_not_there_is_null()
    {
        await using var store = await StartAsync();

        Assert.Null(await store.Reminders.ReadRow(NewGrain(), "wake"));
        Assert.Empty((await store.Reminders.ReadRows(NewGrain())).Reminders);
    }

    [Fact]
    public async Task Writing_it_again_replaces_it_and_changes_the_etag()
    {
        await using var store = await StartAsync();
        var grain = NewGrain();
        var first = await store.UpsertAsync(Entry(grain, "wake", TimeSpan.FromMinutes(1)));

        var second = await store.UpsertAsync(Entry(grain, "wake", TimeSpan.FromMinutes(2)));

        Assert.NotEqual(first, second);
        var only = Assert.Single((await store.Reminders.ReadRows(grain)).Reminders);
        Assert.Equal((TimeSpan.FromMinutes(2), second), (only.Period, only.ETag));
    }

    [Fact]
    public async Task Removal_needs_the_latest_etag()
    {
        await using var store = await StartAsync();
        var grain = NewGrain();
        var first = await store.UpsertAsync(Entry(grain, "wake", TimeSpan.FromMinutes(1)));
        var second = await store.UpsertAsync(Entry(grain, "wake", TimeSpan.FromMinutes(2)));
        await store.UpsertAsync(Entry(grain, "other", TimeSpan.FromMinutes(2)));

        Assert.False(await store.Reminders.RemoveRow(grain, "wake", first));
        Assert.NotNull(await store.Reminders.ReadRow(grain, "wake"));
        Assert.True(await store.Reminders.RemoveRow(grain, "wake", second));
        Assert.False(await store.Reminders.RemoveRow(grain, "wake", second));

        Assert.Equal("other", Assert.Single((await store.Reminders.ReadRows(grain)).Reminders).ReminderName);
    }

    [Fact]
    public async Task Services_do_not_see_each_others()
    {
        await using var store = await StartAsync();
        await using var other = await StartAsync("another-service");
        var grain = NewGrain();
        await store.UpsertAsync(Entry(grain, "wake", TimeSpan.FromMinutes(1)));

        Assert.Null(await other.Reminders.ReadRow(grain, "wake"));
        Assert.DoesNotContain((await other.Reminders.ReadRows(0, 0)).Reminders, r => r.GrainId == grain);
    }

    [Fact]
    public async Task Ranges_are_arcs_of_the_ring_open_at_the_beginning_and_closed_at_the_end()
    {
        var service = Guid.NewGuid().ToString("N");
        await using var store = await StartAsync(service);
        var grains = Enumerable.Range(0, 40).Select(_ => NewGrain()).ToArray();
        foreach (var grain in grains)
        {
            await store.UpsertAsync(Entry(grain, "wake", TimeSpan.FromMinutes(1)));
        }

        // The borders that matter are the grains' own places, the seam, and the place where a signed number changes its sign.
        uint[] borders = [0, 1, int.MaxValue, (uint)int.MaxValue + 1, uint.MaxValue, .. grains.Take(10).SelectMany(g => new[] { g.GetUniformHashCode(), g.GetUniformHashCode() - 1 })];
        var border = Gen.OneOf(Gen.Int[0, borders.Length - 1].Select(i => borders[i]), Gen.UInt);
        await Gen.Select(border, border).SampleAsync(
            async (begin, end) =>
            {
                var expected = grains.Where(g => IsIn(g.GetUniformHashCode(), begin, end)).Order();

                var read = (await store.Reminders.ReadRows(begin, end)).Reminders.Select(r => r.GrainId).Order();

                Assert.Equal(expected, read);
            },
            iter: 150,
            threads: 2);
    }

    private static bool IsIn(uint hash, uint begin, uint end) => begin < end ? hash > begin && hash <= end : hash > begin || hash <= end;

    private static ReminderEntry Entry(GrainId grain, string name, TimeSpan period) => new() { GrainId = grain, ReminderName = name, StartAt = Start, Period = period };

    private static GrainId NewGrain() => GrainId.Create("thing", Guid.NewGuid().ToString("N"));
}
