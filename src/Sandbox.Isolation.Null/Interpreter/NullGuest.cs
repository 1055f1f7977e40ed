using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Null.State;

namespace Sandbox.Isolation.Null.Interpreter;

/// <summary>
/// What stands for the agent and everything it starts: an interpreter of scripted programs. It is an object with a lock; nothing of it runs while nobody calls and no timer of a program is due.
/// </summary>
internal sealed partial class NullGuest : IGuest
{
    private readonly TaskCompletionSource<string> _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Action<string> _panicked;
    private readonly Dictionary<string, NullContext> _contexts = new(StringComparer.Ordinal);
    private readonly List<NullExecution> _executions = [];
    private readonly NullDisk _disk;
    private readonly FileHandles _files;
    private readonly MicroVmSpec _spec;
    private TaskCompletionSource? _continued;
    private string? _gone;
    private uint _lastPid = 100;

    /// <summary>Makes one that stands still until <see cref="Continue"/>.</summary>
    public NullGuest(MicroVmSpec spec, NullDisk disk, TimeProvider clock, Action<string> panicked) =>
        (_spec, _disk, _files, Clock, _panicked) = (spec, disk, new FileHandles(disk), clock, panicked);

    /// <summary>Held while anything of the guest is looked at or changed.</summary>
    public Lock Gate { get; } = new();

    public TimeProvider Clock { get; }

    /// <summary>It neither stands still nor is gone.</summary>
    public bool Running { get; private set; }

    /// <summary>What <c>set</c> and <c>get</c> are about.</summary>
    public Dictionary<string, string> Variables { get; private set; } = new(StringComparer.Ordinal);

    /// <inheritdoc/>
    public Task<string> Closed => _closed.Task;

    /// <inheritdoc/>
    public async Task<IGuestExecution> StartExecutionAsync(StartExecution request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        return await WhileRunningAsync(() => Start(request.Clone()), cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public Task<IGuestWatch> WatchAsync(Watch request, CancellationToken cancellationToken) => throw Faults.Of(ErrorCode.Unsupported, "This guest watches no directories.");

    /// <inheritdoc/>
    public async Task<IGuestPort> OpenPortAsync(int port, CancellationToken cancellationToken) =>
        await WhileRunningAsync(
            () => port == NullPort.Echo ? new NullPort() : throw Faults.Of(ErrorCode.NotFound, $"nobody listens on port {port}; this guest has only the echo service, port {NullPort.Echo}"),
            cancellationToken).ConfigureAwait(false);

    /// <summary>Does something with the guest, now or when it goes on.</summary>
    /// <exception cref="GuestUnavailableException">It is gone.</exception>
    public async Task<T> WhileRunningAsync<T>(Func<T> action, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task continued;
            lock (Gate)
            {
                ThrowIfGone(null);
                if (Running)
                {
                    return action();
                }

                continued = (_continued ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously)).Task;
            }

            await continued.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    public void ThrowIfGone(string? lost)
    {
        if ((_gone ?? lost) is { } why)
        {
            throw new GuestUnavailableException(why);
        }
    }

    /// <summary>Stands still: no timer fires, nothing is said, nothing is taken in. Returns whether it ran before.</summary>
    public bool Stop()
    {
        lock (Gate)
        {
            if (!Running)
            {
                return false;
            }

            foreach (var execution in _executions)
            {
                execution.Suspend();
            }

            Running = false;
            return true;
        }
    }

    /// <summary>Goes on where it stood. Does nothing if it runs or is gone.</summary>
    public void Continue()
    {
        lock (Gate)
        {
            if (Running || _gone is not null)
            {
                return;
            }

            Running = true;
            foreach (var execution in _executions.ToList())
            {
                execution.Resume();
            }

            SignalContinued();
        }
    }

    /// <summary>Is gone for good. The first reason stays.</summary>
    public void Close(string why)
    {
        lock (Gate)
        {
            _gone ??= why;
            Running = false;
            foreach (var execution in _executions)
            {
                execution.Break();
            }

            SignalContinued();
        }

        _closed.TrySetResult(why);
    }

    /// <summary>The machine dies by itself.</summary>
    public void Panic(string why) => _panicked(why);

    /// <summary>Writes down all that it is. Only while it stands still.</summary>
    public (MachineState State, byte[] Disk) Save()
    {
        lock (Gate)
        {
            ThrowIfGone(null);
            var state = new MachineState
            {
                Variables = new(Variables, StringComparer.Ordinal),
                Contexts = [.. _contexts.Values.Select(c => c.Save())],
                Executions = [.. _executions.Select(e => e.Save())],
                LastPid = _lastPid,
            };
            return (state, _disk.Save());
        }
    }

    /// <summary>Becomes what was saved, with the executions that are named; the others are dropped.</summary>
    /// <returns>The named ones, in the order in which they were named.</returns>
    public IReadOnlyList<IGuestExecution> Load(MachineState state, IReadOnlyList<RestoredExecution> named)
    {
        lock (Gate)
        {
            Variables = state.Variables;
            _lastPid = state.LastPid;
            foreach (var context in state.Contexts.Select(c => new NullContext(c)))
            {
                _contexts[context.Id] = context;
            }

            var restored = new Dictionary<string, NullExecution>(StringComparer.Ordinal);
            foreach (var saved in state.Executions)
            {
                var id = StartExecution.Parser.ParseFrom(saved.Request).ExecutionId;
                if (named.FirstOrDefault(n => n.ExecutionId == id) is not { } wanted)
                {
                    continue;
                }

                restored[id] = new NullExecution(this, saved, wanted.LastSeq);
                if (restored[id].Lost is null)
                {
                    _executions.Add(restored[id]);
                }
            }

            return [.. named.Select(n => restored.TryGetValue(n.ExecutionId, out var found) ? found : (IGuestExecution)new UnknownExecution(n.ExecutionId))];
        }
    }

    /// <summary>Whether a piece of code may run: what was started before it in its context is over.</summary>
    public bool IsTurnOf(NullExecution execution) =>
        execution.ContextId.Length == 0 || _executions.Find(e => e.ContextId == execution.ContextId && !e.Exited) == execution;

    public NullContext? FindContext(string id) => _contexts.GetValueOrDefault(id);

    /// <summary>An execution has ended: the next of its context may run.</summary>
    public void OnExited(NullExecution execution)
    {
        if (execution.ContextId.Length > 0)
        {
            _executions.Find(e => e.ContextId == execution.ContextId && !e.Exited)?.Advance();
        }
    }

    /// <summary>Everything that an execution said is safe.</summary>
    public void Forget(NullExecution execution) => _executions.Remove(execution);

    private NullExecution Start(StartExecution request)
    {
        if (request.WhatCase == StartExecution.WhatOneofCase.Code && !_contexts.ContainsKey(request.Code.ContextId))
        {
            throw Faults.Of(ErrorCode.NotFound, $"there is no context {request.Code.ContextId}");
        }

        var program = Programs.Parse(request);
        if (request.WhatCase != StartExecution.WhatOneofCase.Code && !Programs.Exists(program))
        {
            throw Faults.Of(ErrorCode.NotFound, $"{(program is [var name, ..] ? name : "")}: no such program");
        }

        if (_executions.Exists(e => e.ExecutionId == request.ExecutionId))
        {
            throw Faults.Of(ErrorCode.AlreadyExists, $"execution {request.ExecutionId} exists");
        }

        if (_executions.Count >= ProtocolLimits.MaxExecutions)
        {
            throw Faults.Of(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxExecutions} executions run, the most there may be");
        }

        var execution = new NullExecution(this, request, program, ++_lastPid);
        _executions.Add(execution);
        execution.Advance();
        return execution;
    }

    private void SignalContinued()
    {
        _continued?.TrySetResult();
        _continued = null;
    }

    /// <summary>One that the saved machine did not have.</summary>
    private sealed class UnknownExecution(string id) : IGuestExecution
    {
        public string ExecutionId => id;

        public uint Pid => 0;

        public IAsyncEnumerable<ExecutionEvent> Events => throw Unavailable();

        public ValueTask AcknowledgeAsync(ulong seq, CancellationToken cancellationToken) => throw Unavailable();

        public ValueTask WriteStdinAsync(ReadOnlyMemory<byte> data, bool endOfFile, CancellationToken cancellationToken) => throw Unavailable();

        public ValueTask SignalAsync(int signal, CancellationToken cancellationToken) => throw Unavailable();

        public ValueTask ResizeAsync(uint columns, uint rows, CancellationToken cancellationToken) => throw Unavailable();

        private GuestUnavailableException Unavailable() => new($"The saved machine has no execution {id}.");
    }
}
