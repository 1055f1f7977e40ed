using Microsoft.Extensions.Time.Testing;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Pools;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>Warm machines: given to sessions, replaced, and never in the way.</summary>
public sealed class WarmPoolTests
{
    [Theory]
    [InlineData(0, 1, 4, 100, 1)]
    [InlineData(0, 0, 4, 100, 0)]
    [InlineData(0.7, 1, 4, 100, 2)]
    [InlineData(50, 1, 4, 100, 4)]
    [InlineData(50, 1, 4, 3, 3)]
    [InlineData(50, 1, 4, 0, 0)]
    [InlineData(50, 1, 4, -2, 0)]
    [InlineData(1, 9, 4, 100, 4)]
    public void A_pool_is_as_large_as_arrivals_ask_between_its_bounds_and_within_memory(double perSecond, int floor, int ceiling, int room, int expected) =>
        Assert.Equal(expected, PoolSize.Target(perSecond, TimeSpan.FromSeconds(1), floor, ceiling, room));

    [Fact]
    public void The_arrival_rate_follows_the_load_and_forgets_it()
    {
        var clock = new FakeTimeProvider();
        var rate = new ArrivalRate(clock);
        for (var i = 0; i < 600; i++)
        {
            clock.Advance(TimeSpan.FromSeconds(0.5));
            rate.Note();
        }

        Assert.InRange(rate.PerSecond, 1.8, 2.1);
        clock.Advance(TimeSpan.FromMinutes(10));
        Assert.InRange(rate.PerSecond, 0, 0.01);
    }

    [Fact]
    public async Task A_session_is_given_a_warm_machine_and_the_pool_is_filled_again()
    {
        await using var cluster = await WarmAsync();
        var backend = cluster.Backends["host-a"];
        await PoolHasAsync(cluster, 1);
        var waiting = backend.Live.Keys.Single();

        var info = await (await cluster.Client().StartSessionAsync()).GetAsync();

        Assert.Equal("pool", info.StartMethod);
        Assert.Equal(waiting, backend.Of(info.Id).Owner.VmId);
        await PoolHasAsync(cluster, 1);
        var report = await ReportAsync(cluster);
        Assert.Equal((1, 0), (report.Hits, report.Misses));
        Assert.True(report.ArrivalsPerMinute > 0);
    }

    [Fact]
    public async Task A_machine_that_died_in_the_pool_is_replaced_without_the_caller_noticing()
    {
        await using var cluster = await WarmAsync();
        var backend = cluster.Backends["host-a"];
        await PoolHasAsync(cluster, 1);
        backend.Live.Values.Single().Crash("the host's OOM killer");

        var info = await (await cluster.Client().StartSessionAsync()).GetAsync();

        Assert.Equal(SessionState.Running, info.State);
        Assert.Contains(info.StartMethod, (string[])["pool", "boot"]);
        Assert.Empty(info.Recoveries);
        Assert.Equal(1, info.Generation);
    }

    [Fact]
    public async Task Other_sizes_do_not_take_warm_machines()
    {
        await using var cluster = await WarmAsync();
        await PoolHasAsync(cluster, 1);

        var info = await (await cluster.Client().StartSessionAsync(new CreateSessionRequest { MemoryMiB = 256 })).GetAsync();

        Assert.Equal("boot", info.StartMethod);
        Assert.Equal(1, (await ReportAsync(cluster)).Ready);
    }

    [Fact]
    public async Task Sessions_have_precedence_over_the_pool_for_memory_and_a_stopped_host_leaves_no_warm_machine()
    {
        // Room for two machines of 512 MiB.
        await using var cluster = await WarmAsync(h => h.MemoryMiB = 1024);
        var backend = cluster.Backends["host-a"];
        await PoolHasAsync(cluster, 1);
        await cluster.Client().StartSessionAsync();
        await PoolHasAsync(cluster, 1);
        await cluster.Client().StartSessionAsync();
        await PoolHasAsync(cluster, 0);
        Assert.Equal(2, backend.Live.Count);

        await cluster.Cluster.StopAllSilosAsync();
        Assert.Empty(backend.Live);
    }

    private static async Task<SandboxTestCluster> WarmAsync(Action<HostOptions>? hosts = null)
    {
        var cluster = await SandboxTestCluster.StartAsync(silos: 1, hosts: o =>
        {
            o.PoolPeriod = TimeSpan.FromMilliseconds(50);
            hosts?.Invoke(o);
        });
        cluster.Backends["host-a"].Warm = true;
        return cluster;
    }

    private static Task PoolHasAsync(SandboxTestCluster cluster, int machines) =>
        Eventually.TrueAsync(async () => await ReportAsync(cluster) is var r && r.Ready == machines && r.Target == machines);

    private static Task<WarmPoolReport> ReportAsync(SandboxTestCluster cluster) => cluster.Grains.GetGrain<IWarmPoolGrain>("host-a/python").GetAsync();
}
