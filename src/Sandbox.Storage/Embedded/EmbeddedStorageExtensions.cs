using Microsoft.Extensions.DependencyInjection;
using Orleans.Runtime.Hosting;

namespace Sandbox.Storage.Embedded;

/// <summary>The default: everything in one SQLite file under the data directory. For one process; see docs/storage.md.</summary>
public static class EmbeddedStorageExtensions
{
    /// <summary>Adds grain storage and reminders in <c>sandbox.db</c> of the directory.</summary>
    public static ISiloBuilder UseEmbeddedStorage(this ISiloBuilder silo, string dataDirectory)
    {
        ArgumentNullException.ThrowIfNull(silo);
        silo.Services.AddSingleton(_ => new SqliteDatabase(dataDirectory));
        foreach (var name in (string[])[StorageProviders.State, StorageProviders.PubSub])
        {
            silo.Services.AddGrainStorage(name, (services, provider) => new SqliteGrainStorage(services.GetRequiredService<SqliteDatabase>(), services, provider));
        }

        silo.AddReminders();
        silo.Services.AddSingleton<IReminderTable, SqliteReminderTable>();
        return silo;
    }
}
