using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Npgsql;
using Orleans.Configuration;
using Orleans.Runtime.Hosting;
using StackExchange.Redis;

namespace Sandbox.Storage.Cluster;

/// <summary>The cluster's set-up: membership in Redis, state and reminders in PostgreSQL.</summary>
public static class ClusterStorageExtensions
{
    /// <summary>
    /// Unless the connection string says otherwise (what comes later counts): the few statements there are keep their plans, and a connection, which no statement leaves anything on, is not reset before the next one uses it.
    /// Both together are most of what a small write costs the database.
    /// </summary>
    private const string Defaults = "Max Auto Prepare=32;Auto Prepare Min Usages=2;No Reset On Close=true;";

    /// <summary>Adds grain storage and reminders in PostgreSQL. Its schema must be there: <c>sandbox db migrate</c>.</summary>
    public static ISiloBuilder UsePostgresStorage(this ISiloBuilder silo, string connectionString)
    {
        ArgumentNullException.ThrowIfNull(silo);
        silo.Services.AddSingleton(_ => NpgsqlDataSource.Create(Defaults + connectionString));
        silo.Services.AddSingleton<PostgresWriter>();
        foreach (var name in (string[])[StorageProviders.State, StorageProviders.PubSub])
        {
            silo.Services.AddGrainStorage(
                name, (services, provider) => new PostgresGrainStorage(services.GetRequiredService<NpgsqlDataSource>(), services.GetRequiredService<PostgresWriter>(), services, provider));
        }

        silo.AddReminders();
        silo.Services.AddSingleton<IReminderTable, PostgresReminderTable>();
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
