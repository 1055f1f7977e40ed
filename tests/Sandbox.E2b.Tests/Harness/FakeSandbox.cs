using System.Collections.Concurrent;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using Orleans.Concurrency;
using Sandbox.Abstractions;
using Sandbox.Gateway.Executions;

namespace Sandbox.E2b.Tests.Harness;

/// <summary>One session as the data plane sees it: executions whose output a test writes, files in memory, contexts.</summary>
internal sealed class FakeSandbox : ISessionExecutions, ISessionFiles, ISessionContexts, IOutputSource
{
    private readonly ConcurrentDictionary<string, (string Path, MemoryStream Data, OpenWriteRequest? Write)> _open = new();
    private int _next;

    public SessionState State { get; set; } = SessionState.Running;

    public List<ExecutionInfo> Executions { get; } = [];

    public List<ExecutionRequest> Started { get; } = [];

    /// <summary>What executions say from their start on.</summary>
    public List<(OutputKind Kind, byte[] Data)> Output { get; } = [];

    /// <summary>How they end; unset: they go on.</summary>
    public ExecutionExit? Exit { get; set; }

    public ConcurrentQueue<string> Calls { get; } = new();

    public ConcurrentDictionary<string, byte[]> Files { get; } = new();

    public HashSet<string> Directories { get; } = ["/home/user"];

    public Dictionary<string, string> LastMetadata { get; private set; } = [];

    public Queue<FileEventPage> Changes { get; } = new();

    public Task<ExecutionInfo> StartExecutionAsync(ExecutionRequest request, string? idempotencyKey)
    {
        Started.Add(request);
        var info = new ExecutionInfo
        {
            Id = SandboxIds.NewExecution(),
            SessionId = "ses",
            HostId = "host",
            State = ExecutionState.Running,
            Title = "title",
            ContextId = request.Code is null ? null : "ctx",
            Pid = 100 + Interlocked.Increment(ref _next),
            HasPty = request.Pty is not null,
            Tag = request.Tag,
            Argv = request.Argv,
            Cwd = request.Cwd,
        };
        Executions.Insert(0, info);
        return Task.FromResult(info);
    }

    public Task<ExecutionInfo> GetExecutionAsync(string executionId) => Task.FromResult(Executions.First(e => e.Id == executionId));

    public Task<IReadOnlyList<ExecutionInfo>> ListExecutionsAsync(int limit) => Task.FromResult<IReadOnlyList<ExecutionInfo>>([.. Executions.Take(limit)]);

    public Task WriteStdinAsync(string executionId, ReadOnlyMemory<byte> data, bool endOfFile)
    {
        Calls.Enqueue($"stdin {(data.Length > 100 ? data.Length : Encoding.UTF8.GetString(data.Span))} {endOfFile}");
        return Task.CompletedTask;
    }

    public Task SignalAsync(string executionId, int signal)
    {
        Calls.Enqueue($"signal {signal}");
        return Task.CompletedTask;
    }

    public Task ResizeAsync(string executionId, TerminalSize size)
    {
        Calls.Enqueue($"resize {size.Columns}x{size.Rows}");
        return Task.CompletedTask;
    }

    public async IAsyncEnumerable<OutputEvent> ReadAsync(string sessionId, string executionId, long fromSeq, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var seq = 1L;
        foreach (var (kind, data) in Output)
        {
            yield return new OutputEvent(seq++, kind, DateTimeOffset.UnixEpoch, data);
        }

        if (Exit is null)
        {
            await Task.Delay(Timeout.Infinite, cancellationToken);
        }

        yield return new OutputEvent(seq, OutputKind.Exit, DateTimeOffset.UnixEpoch, OutputJson.Write(Exit));
    }

    public Task<FileEntry> StatAsync(string path, string? user) => Task.FromResult(Find(path));

    public Task<FilePage> ListAsync(ListFilesRequest request)
    {
        var all = Files.Keys.Order(StringComparer.Ordinal).Where(f => string.CompareOrdinal(f, request.After) > 0).ToList();
        return Task.FromResult(new FilePage([.. all.Take(2).Select(Find)], all.Count > 2));
    }

    public Task<FileEntry> MakeDirectoryAsync(string path, string? user)
    {
        Directories.Add(Absolute(path));
        return Task.FromResult(Find(path));
    }

    public Task<FileEntry> MoveAsync(string from, string to, bool overwrite, string? user)
    {
        Find(from);
        Files[Absolute(to)] = Files.TryRemove(Absolute(from), out var data) ? data : [];
        return Task.FromResult(Find(to));
    }

    public Task RemoveAsync(string path, bool recursive, string? user) =>
        Files.TryRemove(Absolute(path), out _) ? Task.CompletedTask : throw SandboxException.NotFound($"Cannot remove {Absolute(path)}: No such file or directory");

    public Task<OpenedFile> OpenReadAsync(string path, string? user)
    {
        var entry = Find(path);
        var handle = $"r{Interlocked.Increment(ref _next)}";
        _open[handle] = (entry.Path, new MemoryStream(Files[entry.Path]), null);
        return Task.FromResult(new OpenedFile(handle, entry));
    }

    public Task<OpenedFile> OpenWriteAsync(OpenWriteRequest request)
    {
        LastMetadata = request.Metadata;
        var handle = $"w{Interlocked.Increment(ref _next)}";
        _open[handle] = (Absolute(request.Path), new MemoryStream(), request);
        return Task.FromResult(new OpenedFile(handle, new FileEntry { Path = Absolute(request.Path), Kind = FileKind.File }));
    }

    public Task<Immutable<byte[]>> ReadChunkAsync(string handle, long offset, int length) =>
        Task.FromResult(_open[handle].Data.ToArray().AsSpan((int)offset, length).ToArray().AsImmutable());

    public Task WriteChunkAsync(string handle, long offset, Immutable<byte[]> data)
    {
        var to = _open[handle].Data;
        to.Position = offset;
        to.Write(data.Value);
        return Task.CompletedTask;
    }

    public Task<string> WatchAsync(string path, bool recursive, string? user) => Task.FromResult("watch-1");

    public Task<FileEventPage> ReadWatchAsync(string watchId, TimeSpan wait) => Task.FromResult(Changes.TryDequeue(out var page) ? page : new FileEventPage([], 0, false));

    public Task UnwatchAsync(string watchId)
    {
        Calls.Enqueue("unwatch " + watchId);
        return Task.CompletedTask;
    }

    public Task CloseAsync(string handle, bool commit)
    {
        if (_open.TryRemove(handle, out var file) && file.Write is not null && commit)
        {
            Files[file.Path] = file.Data.ToArray();
        }

        return Task.CompletedTask;
    }

    public Task<ContextInfo> CreateContextAsync(CreateContextRequest request) => Task.FromResult(new ContextInfo { Id = SandboxIds.NewContext(), Language = request.Language, Cwd = request.Cwd ?? "/home/user" });

    public Task<IReadOnlyList<ContextInfo>> ListContextsAsync() => Task.FromResult<IReadOnlyList<ContextInfo>>([new ContextInfo { Id = "ctx", Language = "python", Cwd = "/" }]);

    public Task<ContextInfo> RestartContextAsync(string contextId) => throw SandboxException.NotFound("There is no context.");

    public Task RemoveContextAsync(string contextId)
    {
        Calls.Enqueue("remove " + contextId);
        return Task.CompletedTask;
    }

    private FileEntry Find(string path)
    {
        var absolute = Absolute(path);
        return Files.TryGetValue(absolute, out var data) ? new FileEntry { Path = absolute, Kind = FileKind.File, Size = data.Length, Mode = 0x1a4, Owner = "user", Group = "user", Metadata = LastMetadata }
            : Directories.Contains(absolute) ? new FileEntry { Path = absolute, Kind = FileKind.Directory, Mode = 0x1ed }
            : throw SandboxException.NotFound($"{absolute}: No such file or directory");
    }

    private static string Absolute(string path) => path.StartsWith('/') ? path : "/home/user/" + path;
}

/// <summary>The grain factory: every grain is the one sandbox; what it does not do itself answers with the session's state.</summary>
public class FakeGrains : DispatchProxy
{
    private FakeSandbox _sandbox = null!;

    internal static IGrainFactory Create(FakeSandbox sandbox)
    {
        var proxy = Create<IGrainFactory, FakeGrains>();
        ((FakeGrains)(object)proxy)._sandbox = sandbox;
        return proxy;
    }

    protected override object? Invoke(MethodInfo? targetMethod, object?[]? args)
    {
        if (targetMethod is not { Name: "GetGrain", IsGenericMethod: true })
        {
            throw new NotSupportedException(targetMethod?.Name);
        }

        return targetMethod.GetGenericArguments()[0].IsInstanceOfType(_sandbox) ? _sandbox : FakeSessionGrain.Create(_sandbox, (string)args![0]!);
    }
}

/// <summary>The session itself, of which the data plane asks for its state only.</summary>
public class FakeSessionGrain : DispatchProxy
{
    private FakeSandbox _sandbox = null!;
    private string _id = "";

    internal static ISessionGrain Create(FakeSandbox sandbox, string id)
    {
        var proxy = Create<ISessionGrain, FakeSessionGrain>();
        var fake = (FakeSessionGrain)(object)proxy;
        (fake._sandbox, fake._id) = (sandbox, id);
        return proxy;
    }

    protected override object? Invoke(MethodInfo? targetMethod, object?[]? args) => targetMethod?.Name switch
    {
        nameof(ISessionGrain.GetAsync) => Task.FromResult(new SessionInfo { Id = _id, Tenant = TenantContext.Development, State = _sandbox.State, Template = "python" }),
        nameof(ISessionGrain.GetMetricsAsync) => Task.FromResult(new SessionMetrics { MemoryTotal = 8 << 20, MemoryAvailable = 4 << 20, Vcpus = 2 }),
        _ => throw new NotSupportedException(targetMethod?.Name),
    };
}
