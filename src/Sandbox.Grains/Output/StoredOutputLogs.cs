using Sandbox.Abstractions;
using Sandbox.Output;
using Page = Sandbox.Abstractions.OutputPage;

namespace Sandbox.Grains.Output;

/// <summary>The output logs of this host in a segmented <see cref="OutputLogStore"/>.</summary>
internal sealed class StoredOutputLogs(string root, TimeProvider clock) : IOutputLogs, IDisposable
{
    // Limits are an execution's own here (see EventTranslator), so the store's are out of the way. A rich result's JSON may be several times its bytes.
    private readonly Lazy<OutputLogStore> _store = new(() => new OutputLogStore(
        root,
        new OutputLogOptions { MaxOutputBytes = long.MaxValue / 2, MaxOutputRecords = long.MaxValue / 2, MaxRecordBytes = 4 * 1024 * 1024, TimeProvider = clock }));

    public IOutputLog Create(string sessionId, string executionId) => new StoredLog(_store.Value.Open(sessionId, executionId));

    public IOutputLog? Find(string sessionId, string executionId) => _store.Value.Find(sessionId, executionId) is { } log ? new StoredLog(log) : null;

    public IReadOnlyList<string> List(string sessionId) => _store.Value.List(sessionId);

    public Task DeleteSessionAsync(string sessionId) => _store.Value.DeleteAsync(sessionId);

    public void Sweep(TimeSpan age) => _store.Value.Sweep(age);

    public void Dispose()
    {
        if (_store.IsValueCreated)
        {
            _store.Value.Dispose();
        }
    }

    private sealed class StoredLog(OutputLog log) : IOutputLog
    {
        private const int MaxPageRecords = 4096;

        public ExecutionExit? Exit
        {
            get
            {
                if (!log.IsComplete)
                {
                    return null;
                }

                // Without a wait the read is done when it returns.
                var last = log.ReadAsync(log.LastSeq, 1, 1, TimeSpan.Zero).AsTask().GetAwaiter().GetResult();
                return EventOf(last.Records[0]).ReadExit();
            }
        }

        public bool IsComplete => log.IsComplete;

        public long LastSeq => log.LastSeq;

        public IReadOnlyList<OutputEvent> Append(IReadOnlyList<PendingEvent> events) =>
            [.. log.Append([.. events.Select(e => new OutputEntry((OutputRecordKind)e.Kind, e.Data, e.Time.ToUnixTimeMilliseconds()))]).Select(EventOf)];

        public async Task<Page> ReadAsync(long fromSeq, int maxBytes, TimeSpan wait, CancellationToken cancellationToken)
        {
            try
            {
                var page = await log.ReadAsync(fromSeq, maxBytes, MaxPageRecords, wait, cancellationToken);
                return new Page { Events = [.. page.Records.Select(EventOf)], NextSeq = page.NextSeq, Complete = page.Complete };
            }
            catch (OutputLogDeletedException)
            {
                throw SandboxException.NotFound("The output was removed: its session ended, or its retention has passed.");
            }
        }

        private static OutputEvent EventOf(OutputRecord r) =>
            new(r.Seq, (OutputKind)r.Kind, DateTimeOffset.FromUnixTimeMilliseconds(r.UnixMilliseconds), r.Data.ToArray());
    }
}
