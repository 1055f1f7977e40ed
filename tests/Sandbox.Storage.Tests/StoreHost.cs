using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Storage;
using Sandbox.Storage.TestSilo;
using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.Storage.Tests;

/// <summary>A silo of one with a store under test: what grains would get, without grains in between.</summary>
internal sealed class StoreHost : IAsyncDisposable
{
    private readonly IHost _host;

    private StoreHost(IHost host) => _host = host;

    public IReminderTable Reminders => _host.Services.GetRequiredService<IReminderTable>();

    public static async Task<StoreHost> StartAsync(Action<ISiloBuilder> store, string service = "storage-test")
    {
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders();
        builder.UseOrleans(silo =>
        {
            silo.UseLocalhostClustering(Loopback.FreePort(), Loopback.FreePort(), null, service, Guid.NewGuid().ToString("N"));
            store(silo);
        });
        var host = builder.Build();
        await host.StartAsync(TestContext.Current.CancellationToken);
        return new StoreHost(host);
    }

    public IGrainStorage Storage(string provider = StorageProviders.State) => _host.Services.GetRequiredKeyedService<IGrainStorage>(provider);

    public async Task<GrainState<CounterState>> ReadAsync(GrainId grain, string name = "state", string provider = StorageProviders.State)
    {
        var state = new GrainState<CounterState>(new CounterState());
        await Storage(provider).ReadStateAsync(name, grain, state);
        return state;
    }

    public async Task<GrainState<CounterState>> WriteAsync(GrainId grain, int number, string? etag, string name = "state", string provider = StorageProviders.State)
    {
        var state = new GrainState<CounterState>(new CounterState { Number = number }, etag!);
        await Storage(provider).WriteStateAsync(name, grain, state);
        return state;
    }

    public async Task<string> UpsertAsync(ReminderEntry entry) => (await Reminders.UpsertRow(entry))!;

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        if (_host is IAsyncDisposable host)
        {
            await host.DisposeAsync();
        }
    }
}
