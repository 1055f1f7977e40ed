using Orleans.Concurrency;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Tests.Harness;

internal sealed class FakeTenant(FakeWorld world, string tenant) : ITenantGrain
{
    public Task<CreatedApiKey> CreateKeyAsync(string name)
    {
        var key = $"sbx_{tenant}_{new string('k', 40)}";
        world.Keys[key] = tenant;
        return Task.FromResult(new CreatedApiKey(new ApiKeyInfo("key_1", name, DateTimeOffset.UnixEpoch), key));
    }

    public Task<bool> VerifyKeyAsync(string key)
    {
        world.Verifications++;
        return Task.FromResult(world.Keys.TryGetValue(key, out var owner) && owner == tenant);
    }

    public Task<IReadOnlyList<ApiKeyInfo>> ListKeysAsync() => Task.FromResult<IReadOnlyList<ApiKeyInfo>>([]);

    public Task RevokeKeyAsync(string keyId) => Task.CompletedTask;
}

internal sealed class FakeIndex(FakeWorld world, string key) : ISessionIndexGrain
{
    public Task AddAsync(string sessionId, DateTimeOffset createdAt) => Task.CompletedTask;

    public Task RemoveAsync(string sessionId) => Task.CompletedTask;

    public async Task<int> CountAsync() => (await ListAsync()).Count;

    public Task<IReadOnlyList<SessionIndexEntry>> ListAsync() => Task.FromResult<IReadOnlyList<SessionIndexEntry>>(
        [.. world.Sessions.Values.Where(s => $"{s.Tenant}/{SandboxIds.ShardOf(s.Id)}" == key).OrderBy(s => s.CreatedAt).Select(s => new SessionIndexEntry(s.Id, s.CreatedAt))]);
}

internal sealed class FakeScheduler(FakeWorld world) : ISchedulerGrain
{
    public Task ReportAsync(HostReport report) => Task.CompletedTask;

    public Task<Placement> PlaceAsync(PlacementRequest request) => throw new NotSupportedException();

    public Task<IReadOnlyList<HostReport>> ListHostsAsync() => Task.FromResult<IReadOnlyList<HostReport>>([.. world.Hosts]);
}

internal sealed class FakeTemplate(string id) : ITemplateGrain
{
    public Task<TemplateInfo> GetAsync() => Task.FromResult(new TemplateInfo { Id = id, Current = new TemplateVersion { Version = "0123456789abcdef" } });

    public Task ReportAsync(string hostId, TemplateVersion version) => Task.CompletedTask;
}

internal sealed class FakeOutput(FakeWorld world, string key) : IOutputGrain
{
    public Task<OutputPage> ReadAsync(long fromSeq, TimeSpan wait)
    {
        var all = world.Logs[key.Split('/')[2]].Events;
        var events = all.Where(e => e.Seq >= fromSeq).ToList();
        return Task.FromResult(new OutputPage { Events = events, NextSeq = fromSeq + events.Count, Complete = all is [.., { Kind: OutputKind.Exit }] });
    }
}

/// <summary>A session, its executions, contexts and files.</summary>
internal sealed partial class FakeSession(FakeWorld world, string id) : ISessionGrain, ISessionExecutions, ISessionContexts, ISessionFiles
{
    public Task<SessionInfo> CreateAsync(CreateSessionRequest request, string? idempotencyKey)
    {
        world.Note("create", request);
        world.Note("tenant", TenantContext.Current);
        ThrowFault();
        return Task.FromResult(world.Sessions.TryGetValue(id, out var there) ? there : world.NewSession(id, TenantContext.Current!, SessionState.Creating));
    }

    public Task<SessionInfo> GetAsync() => Task.FromResult(Mine());

    public Task<SessionInfo> WaitUntilSettledAsync(TimeSpan wait) => Task.FromResult(world.Sessions[id] = Settled(Mine()));

    public Task<SessionInfo> SetRunLimitAsync(TimeSpan limit, bool onlyLater) => Task.FromResult(world.Sessions[id] = Mine() with { RunLimit = limit });

    public Task<SessionInfo> SetTimeoutsAsync(TimeSpan? idleTimeout, TimeSpan? maxLifetime, string? idempotencyKey) =>
        Task.FromResult(world.Sessions[id] = Mine() with { IdleTimeout = idleTimeout ?? Mine().IdleTimeout });

    public Task<SessionInfo> TerminateAsync(string? idempotencyKey) => Task.FromResult(world.Sessions[id] = Mine() with { State = SessionState.Terminated });

    public Task<SessionMetrics> GetMetricsAsync()
    {
        Mine();
        return Task.FromResult(new SessionMetrics { MemoryTotal = 5 });
    }

    public Task OnMicroVmEndedAsync(long generation, string reason) => throw new NotSupportedException();

    public Task OnExecutionEndedAsync(long generation, string executionId, ExecutionExit exit) => throw new NotSupportedException();

    public Task<ExecutionInfo> StartExecutionAsync(ExecutionRequest request, string? idempotencyKey)
    {
        Mine();
        ThrowFault();
        world.Note("start", request);
        var execution = SandboxIds.NewExecution();
        var log = world.NewLog(id, execution);
        log.Write(OutputKind.Stdout, "started\n");
        log.Exit(0);
        return Task.FromResult(Info(execution));
    }

    public Task<ExecutionInfo> GetExecutionAsync(string executionId)
    {
        Mine();
        return Task.FromResult(world.Logs.TryGetValue(executionId, out var log) && log.Session == id ? Info(executionId) : throw SandboxException.NotFound($"There is no execution {executionId}."));
    }

    public Task<IReadOnlyList<ExecutionInfo>> ListExecutionsAsync(int limit)
    {
        Mine();
        return Task.FromResult<IReadOnlyList<ExecutionInfo>>([.. world.Logs.Where(l => l.Value.Session == id).Take(limit).Select(l => Info(l.Key))]);
    }

    public Task WriteStdinAsync(string executionId, ReadOnlyMemory<byte> data, bool endOfFile)
    {
        world.Note("stdin", (data.ToArray(), endOfFile));
        if (data.Length > 0 && world.Logs.TryGetValue(executionId, out var log))
        {
            log.Write(OutputKind.Stdout, data.ToArray());
        }

        if (endOfFile)
        {
            world.Logs[executionId].Exit(0);
        }

        return Task.CompletedTask;
    }

    public Task SignalAsync(string executionId, int signal)
    {
        world.Note("signal", signal);
        return Task.CompletedTask;
    }

    public Task ResizeAsync(string executionId, TerminalSize size)
    {
        world.Note("resize", size);
        return Task.CompletedTask;
    }

    public Task<ContextInfo> CreateContextAsync(CreateContextRequest request) => Task.FromResult(new ContextInfo { Id = SandboxIds.NewContext(), Language = request.Language });

    public Task<IReadOnlyList<ContextInfo>> ListContextsAsync() => Task.FromResult<IReadOnlyList<ContextInfo>>([]);

    public Task<ContextInfo> RestartContextAsync(string contextId) => Task.FromResult(new ContextInfo { Id = contextId, Language = "python" });

    public Task RemoveContextAsync(string contextId) => Task.CompletedTask;

    public Task<FileEntry> StatAsync(string path, string? user) => Task.FromResult(Entry(path));

    public Task<FilePage> ListAsync(ListFilesRequest request) => Task.FromResult(new FilePage([Entry("/home/user/x")], false));

    public Task<FileEntry> MakeDirectoryAsync(string path, string? user) => Task.FromResult(Entry(path) with { Kind = FileKind.Directory });

    public Task<FileEntry> MoveAsync(string from, string to, bool overwrite, string? user) => Task.FromResult(Entry(to));

    public Task RemoveAsync(string path, bool recursive, string? user)
    {
        world.Note("remove", path);
        return Task.CompletedTask;
    }

    public Task<OpenedFile> OpenReadAsync(string path, string? user)
    {
        world.Note("open", path);
        return world.FileSizes.ContainsKey(path) ? Task.FromResult(new OpenedFile(path, Entry(path))) : throw SandboxException.NotFound($"{path}: no such file");
    }

    public Task<OpenedFile> OpenWriteAsync(OpenWriteRequest request)
    {
        world.Note("open-write", request);
        return Task.FromResult(new OpenedFile(request.Path, Entry(request.Path)));
    }

    public Task<Immutable<byte[]>> ReadChunkAsync(string handle, long offset, int length)
    {
        var rest = (int)Math.Clamp(world.FileSizes[handle] - offset, 0, length);
        var chunk = new byte[rest];
        for (var i = 0; i < rest; i++)
        {
            chunk[i] = FakeWorld.Pattern(offset + i);
        }

        return Task.FromResult(chunk.AsImmutable());
    }

    public Task WriteChunkAsync(string handle, long offset, Immutable<byte[]> data)
    {
        for (var i = 0; i < data.Value.Length; i++)
        {
            if (data.Value[i] != FakeWorld.Pattern(offset + i))
            {
                throw new InvalidDataException("not the pattern");
            }
        }

        world.AddUploaded(data.Value.Length);
        return Task.CompletedTask;
    }

    public Task<string> WatchAsync(string path, bool recursive, string? user) => throw new NotSupportedException();

    public Task<FileEventPage> ReadWatchAsync(string watchId, TimeSpan wait) => throw new NotSupportedException();

    public Task UnwatchAsync(string watchId) => throw new NotSupportedException();

    public Task CloseAsync(string handle, bool commit)
    {
        world.Closed[handle] = commit;
        return Task.CompletedTask;
    }

    private SessionInfo Mine()
    {
        world.WakeChoice = RequestContext.Get(WakeContext.Key) as bool?;
        return world.Sessions.TryGetValue(id, out var session) && session.Tenant == TenantContext.Current ? session : throw SandboxException.NotFound($"There is no session {id}.");
    }

    private FileEntry Entry(string path) => new() { Path = path, Kind = FileKind.File, Size = world.FileSizes.GetValueOrDefault(path) };

    private ExecutionInfo Info(string execution) => new() { Id = execution, SessionId = id, HostId = FakeWorld.Host, State = ExecutionState.Running, Title = "x", Exit = world.Exits.GetValueOrDefault(execution) };

    private void ThrowFault()
    {
        if (world.Fault is { } fault)
        {
            world.Fault = null;
            throw fault;
        }
    }
}
