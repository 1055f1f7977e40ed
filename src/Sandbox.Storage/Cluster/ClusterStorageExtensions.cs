using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Orleans.Configuration;
using Orleans.Storage;
using StackExchange.Redis;

namespace Sandbox.Storage.Cluster;

/// <summary>The cluster's set-up: membership in Redis, state and reminders in PostgreSQL.</summary>
public static class ClusterStorageExtensions
{
    private const string Npgsql = "Npgsql";

    /// <summary>Adds grain storage and reminders in PostgreSQL. Its schema must be there: <c>sandbox db migrate</c>.</summary>
    public static ISiloBuilder UsePostgresStorage(this ISiloBuilder silo, string connectionString)
    {
        ArgumentNullException.ThrowIfNull(silo);
        foreach (var name in (string[])[StorageProviders.State, StorageProviders.PubSub])
        {
            silo.AddAdoNetGrainStorage(name, options => options.Configure<IServiceProvider>((o, services) =>
            {
                o.Invariant = Npgsql;
                o.ConnectionString = connectionString;
                o.GrainStorageSerializer = ActivatorUtilities.CreateInstance<OrleansGrainStorageSerializer>(services);
            }));
        }

        silo.UseAdoNetReminderService(options =>
        {
            options.Invariant = Npgsql;
            options.ConnectionString = connectionString;
        });
        return silo;
    }

    /// <summary>Adds membership in Redis for a silo.</summary>
    public static ISiloBuilder UseRedisMembership(this ISiloBuilder silo, string connectionString, string clusterId, string serviceId)
    {
        ArgumentNullException.ThrowIfNull(silo);
        silo.Services.Configure<ClusterOptions>(o => (o.ClusterId, o.ServiceId) = (clusterId, serviceId));
        return silo.UseRedisClustering(o => o.ConfigurationOptions = Options(connectionString));
    }

    /// <summary>Adds membership in Redis for a client.</summary>
    public static IClientBuilder UseRedisMembership(this IClientBuilder client, string connectionString, string clusterId, string serviceId)
    {
        ArgumentNullException.ThrowIfNull(client);
        client.Services.Configure<ClusterOptions>(o => (o.ClusterId, o.ServiceId) = (clusterId, serviceId));
        return client.UseRedisClustering(o => o.ConfigurationOptions = Options(connectionString));
    }

    private static ConfigurationOptions Options(string connectionString)
    {
        var options = ConfigurationOptions.Parse(connectionString);
        options.AbortOnConnectFail = false;
        return options;
    }
}
