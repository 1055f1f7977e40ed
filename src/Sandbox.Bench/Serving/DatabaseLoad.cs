using System.Diagnostics;
using Npgsql;

namespace Sandbox.Bench.Serving;

/// <summary>What a PostgreSQL of Sandbox has been asked to write, and how fast it writes when nobody else stands in between.</summary>
internal sealed class DatabaseLoad(string connectionString)
{
    /// <summary>Bytes of a row where there is no state yet to take the size of.</summary>
    private const int UsualPayload = 1024;

    /// <summary>Rows written so far (inserted or changed) by everybody.</summary>
    public async Task<long> WritesAsync(CancellationToken cancellationToken)
    {
        // The server's processes report what they did when they have been idle for a while: wait until nothing more comes.
        long before = -1;
        for (var attempt = 0; ; attempt++)
        {
            var now = await ScalarAsync<long>("SELECT coalesce(sum(n_tup_ins + n_tup_upd), 0)::bigint FROM pg_stat_user_tables WHERE relname <> 'bench_row'", cancellationToken);
            if (now == before || attempt == 10)
            {
                return now;
            }

            before = now;
            await Task.Delay(TimeSpan.FromSeconds(3), cancellationToken);
        }
    }

    /// <summary>Rows a second of plain inserts, each its own transaction, of rows as large as those of the actors' state.</summary>
    public async Task<double> InsertsPerSecondAsync(int count, int atOnce, CancellationToken cancellationToken)
    {
        await ScalarAsync<object>("CREATE TABLE IF NOT EXISTS bench_row (id bigserial PRIMARY KEY, grain text NOT NULL, payload bytea NOT NULL)", cancellationToken);
        var payload = new byte[(int)(await ScalarAsync<decimal?>("SELECT avg(length(payload)) FROM grain_state WHERE payload IS NOT NULL", cancellationToken) ?? UsualPayload)];
        Random.Shared.NextBytes(payload);
        var text = new NpgsqlConnectionStringBuilder(connectionString) { MaxPoolSize = atOnce }.ConnectionString;
        await using var source = NpgsqlDataSource.Create(text);
        var options = new ParallelOptions { MaxDegreeOfParallelism = atOnce, CancellationToken = cancellationToken };

        // Connections first: opening them is not what is measured.
        await Parallel.ForAsync(0, atOnce, options, (i, ct) => InsertAsync(source, i, payload, ct));
        var began = Stopwatch.GetTimestamp();
        await Parallel.ForAsync(0, count, options, (i, ct) => InsertAsync(source, i, payload, ct));
        return count / Stopwatch.GetElapsedTime(began).TotalSeconds;
    }

    private static async ValueTask InsertAsync(NpgsqlDataSource source, int i, byte[] payload, CancellationToken cancellationToken)
    {
        await using var command = source.CreateCommand("INSERT INTO bench_row (grain, payload) VALUES ($1, $2)");
        command.Parameters.Add(new NpgsqlParameter<string> { TypedValue = $"session/ses_{i}" });
        command.Parameters.Add(new NpgsqlParameter<byte[]> { TypedValue = payload });
        await command.ExecuteNonQueryAsync(cancellationToken);
    }

    private async Task<T?> ScalarAsync<T>(string sql, CancellationToken cancellationToken)
    {
        await using var connection = new NpgsqlConnection(connectionString);
        await connection.OpenAsync(cancellationToken);
#pragma warning disable CA2100 // Constants of this file.
        await using var command = new NpgsqlCommand(sql, connection);
#pragma warning restore CA2100
        return await command.ExecuteScalarAsync(cancellationToken) is T value ? value : default;
    }
}
