using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;
using Orleans.Storage;
using Xunit;

namespace Sandbox.Storage.Tests;

/// <summary>What every store must do, checked through a real silo. Each store's tests derive from this.</summary>
public abstract class StoreContract
{
    protected abstract void Use(ISiloBuilder silo);

    [Fact]
    public async Task State_survives_a_restart()
    {
        await using (var first = await StartAsync())
        {
            Assert.Equal(3, await first.Counter("a").AddAsync(3));
            Assert.Equal(5, await first.Counter("a").AddAsync(2));
        }

        await using var second = await StartAsync();
        Assert.Equal(5, await second.Counter("a").GetAsync());
        Assert.Equal(6, await second.Counter("a").AddAsync(1));
        Assert.Equal(0, await second.Counter("b").GetAsync());
    }

    [Fact]
    public async Task Cleared_state_is_gone_and_can_be_written_again()
    {
        await using var silo = await StartAsync();
        await silo.Counter("c").AddAsync(7);
        await silo.Counter("c").ClearAsync();
        Assert.Equal(1, await silo.Counter("c").AddAsync(1));
    }

    [Fact]
    public async Task A_writer_with_an_old_version_is_refused()
    {
        await using var silo = await StartAsync();
        var storage = silo.Services.GetRequiredKeyedService<IGrainStorage>(StorageProviders.State);
        var id = GrainId.Create("counter", Guid.NewGuid().ToString("N"));
        var mine = new GrainState<CounterState>(new CounterState { Value = 1 });
        await storage.WriteStateAsync("counter", id, mine);
        var theirs = new GrainState<CounterState>();
        await storage.ReadStateAsync("counter", id, theirs);
        theirs.State!.Value = 2;
        await storage.WriteStateAsync("counter", id, theirs);

        mine.State!.Value = 3;
        await Assert.ThrowsAsync<InconsistentStateException>(() => storage.WriteStateAsync("counter", id, mine));
        await Assert.ThrowsAsync<InconsistentStateException>(() => storage.WriteStateAsync("counter", id, new GrainState<CounterState>(new CounterState())));

        var read = new GrainState<CounterState>();
        await storage.ReadStateAsync("counter", id, read);
        Assert.Equal(2, read.State!.Value);
    }

    [Fact]
    public async Task Reminders_survive_a_restart_and_are_removed()
    {
        var name = Guid.NewGuid().ToString("N");
        await using (var first = await StartAsync())
        {
            await first.Counter(name).RemindAsync();
            await first.Counter(name).RemindAsync();
        }

        await using var second = await StartAsync();
        Assert.Equal(1, await second.Counter(name).RemindersAsync());
        await second.Counter(name).ForgetReminderAsync();
        Assert.Equal(0, await second.Counter(name).RemindersAsync());
    }

    [Fact]
    public async Task Reminders_are_found_by_ranges_of_the_ring_and_over_its_seam()
    {
        await using var silo = await StartAsync();
        var table = silo.Services.GetRequiredService<IReminderTable>();
        var ids = Enumerable.Range(0, 20).Select(i => GrainId.Create("counter", "range" + i)).ToArray();
        foreach (var id in ids)
        {
            await table.UpsertRow(new ReminderEntry { GrainId = id, ReminderName = "r", StartAt = DateTime.UtcNow, Period = TimeSpan.FromMinutes(5) });
        }

        foreach (var (begin, end) in ((uint, uint)[])[(0, uint.MaxValue), (0x4000_0000, 0xC000_0000), (0xC000_0000, 0x4000_0000)])
        {
            var found = (await table.ReadRows(begin, end)).Reminders.Select(r => r.GrainId).Intersect(ids).ToHashSet();
            var expected = ids.Where(i => Holds(begin, end, i.GetUniformHashCode())).ToHashSet();
            Assert.Equal(expected, found);
        }

        foreach (var id in ids)
        {
            var row = await table.ReadRow(id, "r");
            Assert.NotNull(row);
            Assert.False(await table.RemoveRow(id, "r", "999"));
            Assert.True(await table.RemoveRow(id, "r", row.ETag!));
        }
    }

    private static bool Holds(uint begin, uint end, uint hash) => begin < end ? hash > begin && hash <= end : hash > begin || hash <= end;

    private async Task<Silo> StartAsync()
    {
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders();
        builder.UseOrleans(silo =>
        {
            silo.UseLocalhostClustering(TestSupport.ChildServer.FreePort(), TestSupport.ChildServer.FreePort());
            silo.Services.Configure<ClusterOptions>(o => (o.ClusterId, o.ServiceId) = ("test", "test"));
            Use(silo);
        });
        var host = builder.Build();
        await host.StartAsync();
        return new Silo(host);
    }

    private sealed class Silo(IHost host) : IAsyncDisposable
    {
        public IServiceProvider Services => host.Services;

        public ICounterGrain Counter(string key) => host.Services.GetRequiredService<IGrainFactory>().GetGrain<ICounterGrain>(key);

        public async ValueTask DisposeAsync()
        {
            await host.StopAsync();
            host.Dispose();
        }
    }
}
