using System.Globalization;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Options;
using Orleans.Configuration;

namespace Sandbox.Storage.Embedded;

/// <summary>Reminders in SQLite, which Orleans itself has no table for: so that a session's deadlines survive a restart of the one process.</summary>
public sealed class SqliteReminderTable(SqliteDatabase database, IOptions<ClusterOptions> cluster) : IReminderTable
{
    private const string Columns = "grain, name, start, period, version";
    private readonly string _service = cluster.Value.ServiceId;

    /// <inheritdoc/>
    public Task<ReminderTableData> ReadRows(GrainId grainId) =>
        ReadAsync($"SELECT {Columns} FROM reminder WHERE service = $service AND grain = $grain", ("$service", _service), ("$grain", grainId.ToString()));

    /// <inheritdoc/>
    /// <remarks>The range is (begin, end] on a ring: where begin is not below end it goes over zero.</remarks>
    public Task<ReminderTableData> ReadRows(uint begin, uint end) => ReadAsync(
        $"SELECT {Columns} FROM reminder WHERE service = $service AND " + (begin < end ? "hash > $begin AND hash <= $end" : "(hash > $begin OR hash <= $end)"),
        ("$service", _service), ("$begin", (long)begin), ("$end", (long)end));

    /// <inheritdoc/>
    public async Task<ReminderEntry?> ReadRow(GrainId grainId, string reminderName) =>
        (await ReadAsync(
            $"SELECT {Columns} FROM reminder WHERE service = $service AND grain = $grain AND name = $name",
            ("$service", _service), ("$grain", grainId.ToString()), ("$name", reminderName))).Reminders.FirstOrDefault();

    /// <inheritdoc/>
    public Task<string?> UpsertRow(ReminderEntry entry)
    {
        ArgumentNullException.ThrowIfNull(entry);
        return database.WriteAsync<string?>(
            """
            INSERT INTO reminder (service, grain, name, hash, start, period, version) VALUES ($service, $grain, $name, $hash, $start, $period, 1)
            ON CONFLICT (service, grain, name) DO UPDATE SET hash = excluded.hash, start = excluded.start, period = excluded.period, version = version + 1
            RETURNING version
            """,
            r =>
            {
                r.Read();
                return entry.ETag = r.GetInt64(0).ToString(CultureInfo.InvariantCulture);
            },
            ("$service", _service), ("$grain", entry.GrainId.ToString()), ("$name", entry.ReminderName), ("$hash", (long)entry.GrainId.GetUniformHashCode()),
            ("$start", entry.StartAt.ToUniversalTime().Ticks), ("$period", entry.Period.Ticks));
    }

    /// <inheritdoc/>
    public Task<bool> RemoveRow(GrainId grainId, string reminderName, string eTag) => database.WriteAsync(
        "DELETE FROM reminder WHERE service = $service AND grain = $grain AND name = $name AND version = $version RETURNING 1",
        r => r.Read(),
        ("$service", _service), ("$grain", grainId.ToString()), ("$name", reminderName), ("$version", long.Parse(eTag, CultureInfo.InvariantCulture)));

    /// <inheritdoc/>
    public Task TestOnlyClearTable() => database.WriteAsync("DELETE FROM reminder WHERE service = $service RETURNING 1", r => r.Read(), ("$service", _service));

    private Task<ReminderTableData> ReadAsync(string sql, params (string, object?)[] parameters) => database.ReadAsync(sql, Read, parameters);

    private static ReminderTableData Read(SqliteDataReader reader)
    {
        var entries = new List<ReminderEntry>();
        while (reader.Read())
        {
            entries.Add(new ReminderEntry
            {
                GrainId = GrainId.Parse(reader.GetString(0), CultureInfo.InvariantCulture),
                ReminderName = reader.GetString(1),
                StartAt = new DateTime(reader.GetInt64(2), DateTimeKind.Utc),
                Period = TimeSpan.FromTicks(reader.GetInt64(3)),
                ETag = reader.GetInt64(4).ToString(CultureInfo.InvariantCulture),
            });
        }

        return new ReminderTableData(entries);
    }
}
