using System.Threading.Channels;
using Microsoft.Data.Sqlite;

namespace Sandbox.Storage.Embedded;

/// <summary>
/// The one writer of a database: it takes all the statements that wait and commits them together. What a commit costs is the disk's flush, and ten sessions that are written at the same moment need only one. Each statement
/// still succeeds or fails alone; it is answered once the commit that holds it is durable.
/// </summary>
internal sealed class SqliteWriter : IDisposable
{
    private const int MostTogether = 256;
    private readonly Channel<Work> _queue = Channel.CreateUnbounded<Work>(new UnboundedChannelOptions { SingleReader = true });
    private readonly SqliteConnection _connection;
    private readonly Thread _thread;

    public SqliteWriter(SqliteConnection connection)
    {
        _connection = connection;

        // SQLite's calls are synchronous: a thread of their own keeps them off everybody else's.
        _thread = new Thread(Run) { IsBackground = true, Name = "sqlite-writer" };
        _thread.Start();
    }

    /// <summary>Runs a statement in the next commit.</summary>
    public Task<T> WriteAsync<T>(Func<SqliteConnection, T> statement)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        T result = default!;
        var work = new Work(c => result = statement(c), () => done.SetResult(result), e => done.TrySetException(e));
        if (!_queue.Writer.TryWrite(work))
        {
            done.SetException(new ObjectDisposedException(nameof(SqliteWriter)));
        }

        return done.Task;
    }

    /// <summary>Writes what is queued, and ends.</summary>
    public void Dispose()
    {
        _queue.Writer.TryComplete();
        _thread.Join();
        _connection.Dispose();
    }

    private void Run()
    {
        var batch = new List<Work>();
        while (_queue.Reader.WaitToReadAsync().AsTask().GetAwaiter().GetResult())
        {
            batch.Clear();
            while (batch.Count < MostTogether && _queue.Reader.TryRead(out var work))
            {
                batch.Add(work);
            }

            Commit(batch);
        }
    }

    private void Commit(List<Work> batch)
    {
        var applied = new List<Work>(batch.Count);
        try
        {
            using var transaction = _connection.BeginTransaction(deferred: false);
            foreach (var work in batch)
            {
                try
                {
                    work.Apply(_connection);
                    applied.Add(work);
                }
                catch (SqliteException e) when (e.SqliteErrorCode == SQLitePCL.raw.SQLITE_CONSTRAINT)
                {
                    // The statement alone was undone; whatever else goes wrong takes the whole transaction with it.
                    work.Fail(e);
                }
            }

            transaction.Commit();
        }
        catch (Exception e)
        {
            batch.ForEach(w => w.Fail(e));
            return;
        }

        applied.ForEach(w => w.Succeed());
    }

    private sealed record Work(Action<SqliteConnection> Apply, Action Succeed, Action<Exception> Fail);
}
