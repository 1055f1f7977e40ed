using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Sandbox.Client;
using Sandbox.Storage.Cluster;
using Sandbox.TestSupport;

namespace Sandbox.EndToEnd.Tests.Cluster;

/// <summary>An Orleans client of a cluster of servers, as a program of its own has one.</summary>
internal sealed class ClusterClient : IAsyncDisposable
{
    private readonly IHost _host;

    private ClusterClient(IHost host) => _host = host;

    public static async Task<ClusterClient> ConnectAsync(RedisServer redis)
    {
        var builder = Host.CreateApplicationBuilder();
        builder.Logging.ClearProviders();
        builder.UseOrleansClient(client => client.UseRedisMembership(redis.ConnectionString, "sandbox", "sandbox").AddSandboxStreams());
        var host = builder.Build();
        await host.StartAsync();
        return new ClusterClient(host);
    }

    public SandboxClient Of(string tenant) => new(_host.Services.GetRequiredService<IClusterClient>(), tenant);

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        _host.Dispose();
    }
}
