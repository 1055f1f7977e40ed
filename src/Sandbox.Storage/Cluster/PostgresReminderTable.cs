using System.Globalization;
using Microsoft.Extensions.Options;
using Npgsql;
using Orleans.Configuration;

namespace Sandbox.Storage.Cluster;

/// <summary>
/// Reminders in PostgreSQL, in the rows that Orleans' own ADO.NET table makes of them: silos with that one and with this one share a database. It is ours so that a session's reminder is written together with its state
/// (<see cref="PostgresWriter"/>).
/// </summary>
internal sealed class PostgresReminderTable(NpgsqlDataSource database, PostgresWriter writer, IOptions<ClusterOptions> cluster) : IReminderTable
{
    private const string Select = "SELECT grain, name, start_at, period, version FROM reminder WHERE service = $1";
    private readonly string _service = cluster.Value.ServiceId;

    /// <inheritdoc/>
    public Task<ReminderTableData> ReadRows(GrainId grainId) => ReadAsync($"{Select} AND grain = $2", Text(grainId.ToString()));

    /// <inheritdoc/>
    /// <remarks>The range is (begin, end] on a ring: where begin is not below end it goes over the seam. Hashes are kept as signed numbers, whose seam is elsewhere on the same ring.</remarks>
    public Task<ReminderTableData> ReadRows(uint begin, uint end) => ReadAsync(
        $"{Select} AND " + ((int)begin < (int)end ? "grain_hash > $2 AND grain_hash <= $3" : "(grain_hash > $2 OR grain_hash <= $3)"), Number((int)begin), Number((int)end));

    /// <inheritdoc/>
    public async Task<ReminderEntry?> ReadRow(GrainId grainId, string reminderName) =>
        (await ReadAsync($"{Select} AND grain = $2 AND name = $3", Text(grainId.ToString()), Text(reminderName))).Reminders.FirstOrDefault();

    /// <inheritdoc/>
    public async Task<string?> UpsertRow(ReminderEntry entry)
    {
        ArgumentNullException.ThrowIfNull(entry);
        var version = await writer.WriteAsync(
            """
            INSERT INTO reminder (service, grain, name, grain_hash, start_at, period, version) VALUES ($1, $2, $3, $4, $5, $6, 1)
            ON CONFLICT (service, grain, name) DO UPDATE
            SET grain_hash = excluded.grain_hash, start_at = excluded.start_at, period = excluded.period, version = reminder.version + 1
            RETURNING version
            """,
            Text(_service),
            Text(entry.GrainId.ToString()),
            Text(entry.ReminderName),
            Number((int)entry.GrainId.GetUniformHashCode()),
            new NpgsqlParameter<DateTime> { TypedValue = entry.StartAt.ToUniversalTime() },
            new NpgsqlParameter<long> { TypedValue = (long)entry.Period.TotalMilliseconds });
        return entry.ETag = ((int)version!).ToString(CultureInfo.InvariantCulture);
    }

    /// <inheritdoc/>
    public async Task<bool> RemoveRow(GrainId grainId, string reminderName, string eTag) => await writer.WriteAsync(
        "DELETE FROM reminder WHERE service = $1 AND grain = $2 AND name = $3 AND version = $4 RETURNING 1",
        Text(_service), Text(grainId.ToString()), Text(reminderName), Number(int.Parse(eTag, CultureInfo.InvariantCulture))) is not null;

    /// <inheritdoc/>
    public Task TestOnlyClearTable() => writer.WriteAsync("DELETE FROM reminder WHERE service = $1 RETURNING 1", Text(_service));

    private async Task<ReminderTableData> ReadAsync(string sql, params NpgsqlParameter[] parameters)
    {
#pragma warning disable CA2100 // Constants of this class; values are parameters.
        await using var command = database.CreateCommand(sql);
#pragma warning restore CA2100
        command.Parameters.Add(Text(_service));
        command.Parameters.AddRange(parameters);
        await using var reader = await command.ExecuteReaderAsync();
        var entries = new List<ReminderEntry>();
        while (await reader.ReadAsync())
        {
            entries.Add(new ReminderEntry
            {
                GrainId = GrainId.Parse(reader.GetString(0), CultureInfo.InvariantCulture),
                ReminderName = reader.GetString(1),
                StartAt = reader.GetDateTime(2),
                Period = TimeSpan.FromMilliseconds(reader.GetInt64(3)),
                ETag = reader.GetInt32(4).ToString(CultureInfo.InvariantCulture),
            });
        }

        return new ReminderTableData(entries);
    }

    private static NpgsqlParameter<string> Text(string value) => new() { TypedValue = value };

    private static NpgsqlParameter<int> Number(int value) => new() { TypedValue = value };
}
