using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Null.Interpreter;

// Unary requests: contexts, files, and what else a session asks.
internal sealed partial class NullGuest
{
    /// <inheritdoc/>
    public Task<Response> RequestAsync(Request request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return WhileRunningAsync(() => Answer(request), cancellationToken);
    }

    private Response Answer(Request request)
    {
        switch (request.OpCase)
        {
            case Request.OpOneofCase.Reseed or Request.OpOneofCase.Sync or Request.OpOneofCase.Unwatch:
                break;
            case Request.OpOneofCase.ListExecutions:
                return new Response { Executions = ListExecutions() };
            case Request.OpOneofCase.Metrics:
                return new Response { Metrics = MetricsNow() };
            case Request.OpOneofCase.CreateContext:
                return new Response { Context = Create(request.CreateContext) };
            case Request.OpOneofCase.ListContexts:
                return new Response { Contexts = ListContexts() };
            case Request.OpOneofCase.RestartContext:
                return new Response { Context = Restart(request.RestartContext.ContextId) };
            case Request.OpOneofCase.RemoveContext:
                Kill(Context(request.RemoveContext.ContextId));
                _contexts.Remove(request.RemoveContext.ContextId);
                break;
            case Request.OpOneofCase.Stat:
                return new Response { File = _disk.Stat(request.Stat.Path) };
            case Request.OpOneofCase.List:
                return new Response { Files = _disk.List(request.List.Path, request.List.Depth, request.List.Limit, request.List.After) };
            case Request.OpOneofCase.Mkdir:
                return new Response { File = _disk.MakeDirectory(request.Mkdir.Path, request.Mkdir.Parents) };
            case Request.OpOneofCase.Move:
                return new Response { File = _disk.Move(request.Move.From, request.Move.To, request.Move.Overwrite) };
            case Request.OpOneofCase.Remove:
                _disk.Remove(request.Remove.Path, request.Remove.Recursive);
                break;
            case Request.OpOneofCase.OpenFile:
                return new Response { Handle = _files.Open(request.OpenFile) };
            case Request.OpOneofCase.Read:
                return new Response { Chunk = _files.Read(request.Read) };
            case Request.OpOneofCase.Write:
                _files.Write(request.Write);
                break;
            case Request.OpOneofCase.CloseFile:
                _files.Close(request.CloseFile);
                break;
            default:
                throw Faults.Of(ErrorCode.Unsupported, $"{request.OpCase} is no request that this guest answers");
        }

        return new Response { Empty = new Empty() };
    }

    private NullContext Context(string id) => FindContext(id) ?? throw Faults.Of(ErrorCode.NotFound, $"there is no context {id}");

    private Context Create(CreateContext request)
    {
        if (_contexts.Count >= ProtocolLimits.MaxContexts)
        {
            throw Faults.Of(ErrorCode.ResourceExhausted, $"there are {ProtocolLimits.MaxContexts} contexts, the most there may be");
        }

        var context = new NullContext(request.Clone(), ++_lastPid);
        return _contexts.TryAdd(context.Id, context) ? context.Describe(busy: false) : throw Faults.Of(ErrorCode.AlreadyExists, $"context {context.Id} exists");
    }

    private ContextList ListContexts()
    {
        var list = new ContextList();
        list.Contexts.AddRange(_contexts.Values.Select(c => c.Describe(_executions.Exists(e => e.ContextId == c.Id && !e.Exited))));
        return list;
    }

    private Context Restart(string id)
    {
        var context = Context(id);
        Kill(context);
        context.Lose();
        return context.Describe(busy: false);
    }

    /// <summary>What waits first: it must not get its turn because what runs is killed.</summary>
    private void Kill(NullContext context)
    {
        foreach (var execution in _executions.FindAll(e => e.ContextId == context.Id && !e.Exited).AsEnumerable().Reverse())
        {
            execution.Signal(9);
        }
    }

    private ExecutionList ListExecutions()
    {
        var list = new ExecutionList();
        foreach (var execution in _executions.FindAll(e => !e.Exited))
        {
            var summary = new ExecutionSummary { ExecutionId = execution.ExecutionId, Pid = execution.Pid, Cwd = NullDisk.Home, ContextId = execution.ContextId };
            summary.Argv.AddRange(execution.ContextId.Length > 0 ? [] : execution.Program);
            list.Executions.Add(summary);
        }

        return list;
    }

    private Metrics MetricsNow() => new()
    {
        Vcpus = (uint)_spec.Vcpus,
        MemoryTotal = (ulong)_spec.MemoryMiB << 20,
        MemoryAvailable = (ulong)_spec.MemoryMiB << 20,
        DiskTotal = (ulong)_spec.DiskMiB << 20,
        DiskFree = (ulong)_spec.DiskMiB << 20,
        Processes = (uint)_executions.Count,
        UnixNanos = (Clock.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100,
    };
}
