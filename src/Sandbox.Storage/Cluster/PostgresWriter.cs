using Npgsql;

namespace Sandbox.Storage.Cluster;

/// <summary>
/// Writes to the cluster's database. A statement that comes while others are under way waits for them, and goes with all that wait by then as one batch: one round trip and one commit, however many sessions are written at
/// the same moment. Each statement still succeeds or fails alone; it is answered once the commit that holds it is durable.
/// </summary>
internal sealed class PostgresWriter(NpgsqlDataSource database)
{
    /// <summary>Batches under way at once. More than one, so that a long one does not hold up all others; few, because what waits is what goes together.</summary>
    private const int MostUnderWay = 2;
    private const int MostTogether = 64;

    private readonly Lock _gate = new();
    private readonly Queue<Work> _waiting = [];
    private int _underWay;

    /// <summary>Runs a statement in the next batch; returns the first value of its first row, or null if it has none.</summary>
    /// <param name="sql">A statement that returns rows (<c>RETURNING</c>), be it none: results are told apart by their order.</param>
    /// <param name="parameters">Its parameters, by position.</param>
    public Task<object?> WriteAsync(string sql, params NpgsqlParameter[] parameters)
    {
        var statement = new NpgsqlBatchCommand(sql);
        foreach (var parameter in parameters)
        {
            statement.Parameters.Add(parameter);
        }

        var work = new Work(statement);
        lock (_gate)
        {
            _waiting.Enqueue(work);
            if (_underWay == MostUnderWay)
            {
                return work.Done.Task;
            }

            _underWay++;
        }

        // Not on the caller's scheduler, nor in its context: what is sent is many callers'.
        ThreadPool.UnsafeQueueUserWorkItem(static writer => _ = writer.SendWaitingAsync(), this, preferLocal: false);
        return work.Done.Task;
    }

    private async Task SendWaitingAsync()
    {
        while (Take() is { Count: > 0 } batch)
        {
            await SendAsync(batch).ConfigureAwait(false);
        }
    }

    private List<Work> Take()
    {
        lock (_gate)
        {
            var batch = new List<Work>(Math.Min(_waiting.Count, MostTogether));
            while (batch.Count < MostTogether && _waiting.TryDequeue(out var work))
            {
                batch.Add(work);
            }

            if (batch.Count == 0)
            {
                _underWay--;
            }

            return batch;
        }
    }

    private async Task SendAsync(List<Work> works)
    {
        try
        {
            var values = await ExecuteAsync(works).ConfigureAwait(false);
            for (var i = 0; i < works.Count; i++)
            {
                works[i].Done.SetResult(values[i]);
            }
        }
        catch (PostgresException e) when (e.InvariantSeverity == "ERROR" && works.Count > 1)
        {
            // One that the database refuses takes the whole transaction with it: the others are not to suffer for it.
            foreach (var work in works)
            {
                await SendAsync([work]).ConfigureAwait(false);
            }
        }
        catch (Exception e)
        {
            works.ForEach(w => w.Done.SetException(e));
        }
    }

    /// <summary>Runs statements in one transaction. It is committed when the last result has been read to its end.</summary>
    private async Task<object?[]> ExecuteAsync(List<Work> works)
    {
        await using var batch = database.CreateBatch();
        works.ForEach(w => batch.BatchCommands.Add(w.Statement));
        await using var reader = await batch.ExecuteReaderAsync().ConfigureAwait(false);
        var values = new object?[works.Count];
        for (var i = 0; i < works.Count; i++)
        {
            values[i] = await reader.ReadAsync().ConfigureAwait(false) ? reader.GetValue(0) : null;
            await reader.NextResultAsync().ConfigureAwait(false);
        }

        return values;
    }

    private sealed record Work(NpgsqlBatchCommand Statement)
    {
        public TaskCompletionSource<object?> Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
