using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Npgsql;
using Orleans.Configuration;
using Orleans.Storage;
using Sandbox.Storage.Cluster;
using Sandbox.Storage.TestSilo;
using Xunit;

namespace Sandbox.Storage.Tests.Cluster;

/// <summary>Two silos as processes, found through Redis, over one PostgreSQL; a client that finds them the same way; and things going wrong.</summary>
public sealed class ClusterTests(Servers servers) : IAsyncLifetime
{
    private readonly List<SiloProcess> _silos = [];
    private readonly string _cluster = Guid.NewGuid().ToString("N");
    private string _postgres = "";
    private string _redis = "";
    private IHost? _client;

    public async ValueTask InitializeAsync()
    {
        _redis = (await servers.RedisAsync()).ConnectionString;
        _postgres = await (await servers.PostgresAsync()).CreateDatabaseAsync();
        await DatabaseMigrator.MigrateAsync(_postgres, null, TestContext.Current.CancellationToken);
        _silos.AddRange(await Task.WhenAll(StartSiloAsync(), StartSiloAsync()));

        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders();
        builder.UseOrleansClient(client =>
        {
            client.UseRedisMembership(_redis, _cluster, "storage-test");
            client.Configure<GatewayOptions>(o => o.GatewayListRefreshPeriod = TimeSpan.FromSeconds(1));
            client.Configure<ClientMessagingOptions>(o => o.ResponseTimeout = TimeSpan.FromSeconds(10));
        });
        _client = builder.Build();
        await _client.StartAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (_client is not null)
        {
            await _client.StopAsync();
            _client.Dispose();
        }

        foreach (var silo in _silos)
        {
            TestContext.Current.TestOutputHelper?.WriteLine($"silo {silo.Port}:\n{silo.Output}");
            await silo.DisposeAsync();
        }
    }

    [Fact]
    public async Task State_and_reminders_survive_the_silo_they_were_on()
    {
        // Enough grains that both silos have some, and both halves of the reminders' ring too.
        var grains = Enumerable.Range(0, 12).Select(_ => Grain()).ToArray();
        for (var i = 0; i < grains.Length; i++)
        {
            await grains[i].AddAsync(1000 * i);
            await grains[i].RemindAsync(TimeSpan.FromSeconds(2));
        }

        var ports = (await Task.WhenAll(grains.Select(g => g.WhereAsync()))).Select(PortOf).Distinct().Order();
        Assert.Equal(_silos.Select(s => s.Port).Order(), ports);
        await EventuallyAsync("each reminder fires", async () => (await NumbersAsync(grains)).Select((n, i) => n - (1000 * i)).All(n => n >= 1));

        await _silos[0].CrashAsync();

        await EventuallyAsync("each grain answers from the other silo", async () => (await Task.WhenAll(grains.Select(g => g.WhereAsync()))).All(w => PortOf(w) == _silos[1].Port));
        var before = await NumbersAsync(grains);
        Assert.All(before.Select((n, i) => n - (1000 * i)), n => Assert.InRange(n, 1, 999));
        await EventuallyAsync("each reminder fires again", async () => (await NumbersAsync(grains)).Zip(before).All(n => n.First >= n.Second + 2));
    }

    [Fact]
    public async Task State_survives_all_silos_and_a_new_one_takes_over()
    {
        var grain = Grain();
        await grain.AddAsync(42);
        await grain.RemindAsync(TimeSpan.FromSeconds(2));

        await _silos[0].CrashAsync();
        await _silos[1].CrashAsync();
        _silos.Add(await StartSiloAsync());

        await EventuallyAsync("the grain answers from the new silo", async () => await grain.GetAsync() >= 42 && PortOf(await grain.WhereAsync()) == _silos[2].Port);
        await EventuallyAsync("its reminder fires there", async () => await grain.GetAsync() >= 43);
    }

    [Fact]
    public async Task An_orderly_stop_hands_everything_over_without_waiting_for_a_funeral()
    {
        var grains = Enumerable.Range(0, 12).Select(_ => Grain()).ToArray();
        await Task.WhenAll(grains.Select((g, i) => g.AddAsync(i)));

        await _silos[0].StopAsync();

        await EventuallyAsync("all are on the other", async () => (await Task.WhenAll(grains.Select(g => g.WhereAsync()))).All(w => PortOf(w) == _silos[1].Port));
        Assert.Equal(Enumerable.Range(0, grains.Length), await NumbersAsync(grains));
    }

    [Fact]
    public async Task A_write_behind_a_grains_back_is_noticed()
    {
        var (grain, key) = Named();
        await grain.AddAsync(1);
        await ExecuteAsync($"UPDATE grain_state SET version = version + 1 WHERE grain LIKE '%/{key}'");

        await Assert.ThrowsAsync<InconsistentStateException>(() => grain.AddAsync(1));

        // Orleans drops an activation that was wrong about its state; the next one reads it again.
        await EventuallyAsync("a new activation works", async () => await grain.AddAsync(1) == 2);
    }

    [Fact]
    public async Task Cleared_state_is_gone_and_forgotten_reminders_do_not_come_back()
    {
        var (grain, key) = Named();
        await grain.AddAsync(1);
        await grain.RemindAsync(TimeSpan.FromMinutes(10));
        Assert.Equal(1L, await ExecuteAsync($"SELECT count(*) FROM reminder WHERE grain LIKE '%/{key}'"));

        await grain.ForgetAsync();
        await grain.ClearAsync();

        Assert.Equal(0, await grain.GetAsync());
        Assert.Equal(0L, await ExecuteAsync($"SELECT count(*) FROM reminder WHERE grain LIKE '%/{key}'"));
        Assert.Equal(0L, await ExecuteAsync($"SELECT count(*) FROM grain_state WHERE grain LIKE '%/{key}' AND payload IS NOT NULL"));
        Assert.Equal(5, await grain.AddAsync(5));
    }

    private static int PortOf(string siloAddress) => SiloAddress.FromParsableString(siloAddress).Endpoint.Port;

    private static Task<int[]> NumbersAsync(IEnumerable<ICounterGrain> grains) => Task.WhenAll(grains.Select(g => g.GetAsync()));

    /// <summary>Tries until it is so. A call to a silo that has just died fails or times out; those are tries like others.</summary>
    private static async Task EventuallyAsync(string what, Func<Task<bool>> isSo)
    {
        var deadline = DateTime.UtcNow + TimeSpan.FromMinutes(3);
        Exception? last = null;
        while (DateTime.UtcNow < deadline)
        {
            try
            {
                if (await isSo())
                {
                    return;
                }
            }
            catch (Exception e) when (e is OrleansException or TimeoutException or IOException)
            {
                last = e;
            }

            await Task.Delay(100);
        }

        Assert.Fail($"It did not come to pass that {what}. Last error: {last}");
    }

    private Task<SiloProcess> StartSiloAsync() => SiloProcess.StartAsync(_redis, _postgres, _cluster);

    private ICounterGrain Grain() => Named().Grain;

    private (ICounterGrain Grain, string Key) Named()
    {
        var key = Guid.NewGuid().ToString("N");
        return (_client!.Services.GetRequiredService<IGrainFactory>().GetGrain<ICounterGrain>(key), key);
    }

    private async Task<object?> ExecuteAsync(string sql)
    {
        await using var connection = new NpgsqlConnection(_postgres);
        await connection.OpenAsync();
#pragma warning disable CA2100 // Keys are made here.
        await using var command = new NpgsqlCommand(sql, connection);
#pragma warning restore CA2100
        return await command.ExecuteScalarAsync();
    }
}
