using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Text;
using Sandbox.Abstractions;
using Sandbox.Gateway.Executions;

namespace Sandbox.Gateway.Tests.Harness;

/// <summary>What is behind the facade: sessions, files, output logs, keys.</summary>
public sealed class FakeWorld : IOutputSource
{
    public const string Host = "host-1";
    private long _uploadedBytes;

    public ConcurrentDictionary<string, SessionInfo> Sessions { get; } = new();

    public ConcurrentDictionary<string, FakeLog> Logs { get; } = new();

    /// <summary>How executions ended, as their session knows it.</summary>
    public ConcurrentDictionary<string, ExecutionExit> Exits { get; } = new();

    public ConcurrentDictionary<string, List<CheckpointInfo>> Checkpoints { get; } = new();

    /// <summary>What a session that is on its way becomes, where it is not what was asked for; by id.</summary>
    public ConcurrentDictionary<string, SessionInfo> Outcomes { get; } = new();

    /// <summary>The choice that came with the last call to a session; <see langword="null"/>: none.</summary>
    public bool? WakeChoice { get; set; }

    public ConcurrentDictionary<string, string> Keys { get; } = new();

    public ConcurrentQueue<(string What, object? Value)> Calls { get; } = new();

    public List<HostReport> Hosts { get; } = [Report(true)];

    public int Verifications { get; set; }

    public int Readers { get; private set; }

    /// <summary>What is thrown by the next session call.</summary>
    public Exception? Fault { get; set; }

    /// <summary>What is thrown by calls that wait for a session.</summary>
    public Exception? WaitFault { get; set; }

    /// <summary>Files the facade downloads: bytes made as they are asked for, so that a size costs nothing.</summary>
    public string ArtifactType { get; set; } = "image/png";

    public ConcurrentDictionary<string, long> FileSizes { get; } = new();

    public ConcurrentDictionary<string, MemoryStream> Uploads { get; } = new();

    public ConcurrentDictionary<string, bool> Closed { get; } = new();

    public long UploadedBytes => Interlocked.Read(ref _uploadedBytes);

    public static byte Pattern(long offset) => (byte)((offset * 31) ^ (offset >> 12));

    public static HostReport Report(bool usable) => new()
    {
        HostId = Host,
        At = DateTimeOffset.UnixEpoch,
        MemoryMiB = 1000,
        MemoryLeasedMiB = 0,
        Cpus = 2,
        MicroVms = 0,
        MaxMicroVms = 4,
        Backends = [new HostBackend { Name = "qemu", Usable = usable, Reason = "because" }],
        Templates = new Dictionary<string, string> { ["python"] = "0123456789abcdef" },
    };

    public SessionInfo NewSession(string id, string tenant, SessionState state = SessionState.Running, Dictionary<string, string>? metadata = null) => Sessions[id] = new SessionInfo
    {
        Id = id,
        Tenant = tenant,
        State = state,
        Template = "python",
        CreatedAt = DateTimeOffset.UnixEpoch.AddSeconds(Sessions.Count),
        Metadata = metadata ?? [],
    };

    public FakeLog NewLog(string session, string execution) => Logs[execution] = new FakeLog(session);

    public async IAsyncEnumerable<OutputEvent> ReadAsync(string sessionId, string executionId, long fromSeq, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        Note("read-output", TenantContext.Current);
        Readers++;
        try
        {
            var log = Logs.TryGetValue(executionId, out var found) ? found : throw SandboxException.NotFound("no log");
            for (var seq = fromSeq; ; seq++)
            {
                if (await log.WaitForAsync(seq, cancellationToken) is not { } output)
                {
                    yield break;
                }

                yield return output;
                if (output.Kind == OutputKind.Exit)
                {
                    yield break;
                }
            }
        }
        finally
        {
            Readers--;
        }
    }

    public void AddUploaded(int bytes) => Interlocked.Add(ref _uploadedBytes, bytes);

    public void Note(string what, object? value) => Calls.Enqueue((what, value));

    public object? Noted(string what) => Calls.Last(c => c.What == what).Value;
}

/// <summary>An output log that a test writes while readers wait.</summary>
public sealed class FakeLog(string session)
{
    private readonly List<OutputEvent> _events = [];
    private bool _cut;
    private TaskCompletionSource _grown = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public string Session { get; } = session;

    public IReadOnlyList<OutputEvent> Events
    {
        get
        {
            lock (_events)
            {
                return [.. _events];
            }
        }
    }

    public void Write(OutputKind kind, string text) => Write(kind, Encoding.UTF8.GetBytes(text));

    public void Write(OutputKind kind, byte[] data)
    {
        lock (_events)
        {
            _events.Add(new OutputEvent(_events.Count + 1, kind, DateTimeOffset.UnixEpoch, data));
            _grown.TrySetResult();
            _grown = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }
    }

    public void Exit(int code) => Write(OutputKind.Exit, OutputJson.Write(new ExecutionExit { Reason = ExitReason.Exited, ExitCode = code }));

    /// <summary>Nothing more comes, not even an exit.</summary>
    public void Cut()
    {
        lock (_events)
        {
            _cut = true;
            _grown.TrySetResult();
        }
    }

    public async Task<OutputEvent?> WaitForAsync(long seq, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task grown;
            lock (_events)
            {
                if (_events.Count >= seq)
                {
                    return _events[(int)seq - 1];
                }

                if (_cut || _events is [.., { Kind: OutputKind.Exit }])
                {
                    return null;
                }

                grown = _grown.Task;
            }

            await grown.WaitAsync(cancellationToken);
        }
    }
}
