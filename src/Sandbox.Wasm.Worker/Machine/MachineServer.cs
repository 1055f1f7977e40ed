using System.Collections.Concurrent;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Channel;
using Sandbox.Wasm.Worker.Executions;
using Sandbox.Wasm.Worker.Languages;

namespace Sandbox.Wasm.Worker.Machine;

/// <summary>Serves the host of one machine as the guest agent does: reads its frames in order and answers each request.</summary>
internal sealed class MachineServer(WasmMachine machine) : IDisposable
{
    /// <summary>Requests worked on at once, beside executions.</summary>
    private const int MaxUnderWay = 256;

    private readonly ConcurrentDictionary<ulong, VolumeWatch> _watches = new();
    private readonly ContextTable _contexts = new(machine);
    private readonly HandleTable _handles = new(machine.Volume);
    private readonly FileRequests _files = new(machine.Volume);
    private readonly long _began = Environment.TickCount64;
    private readonly string _bootId = Guid.NewGuid().ToString();
    private byte[] _epoch = [];
    private int _underWay;

    public async Task ServeAsync(FrameSource source)
    {
        try
        {
            while (await source.ReadAsync().ConfigureAwait(false) is { } frame)
            {
                if (frame.BodyCase == Frame.BodyOneofCase.Hello)
                {
                    Greet(frame.Hello);
                }
                else if (_epoch.Length > 0)
                {
                    await machine.Outbox.WaitForRoomAsync().ConfigureAwait(false);
                    Handle(frame);
                }
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException)
        {
            // The host is gone, and the machine with it.
        }
    }

    public void Dispose()
    {
        foreach (var watch in _watches.Values)
        {
            watch.Dispose();
        }

        _handles.Dispose();
        _contexts.Dispose();
    }

    private void Greet(Hello theirs)
    {
        var epoch = theirs.Epoch.ToByteArray();
        if (epoch.Length != 16 || epoch.AsSpan().SequenceEqual(_epoch))
        {
            return;
        }

        Forget();
        var hello = new Hello
        {
            Version = ProtocolLimits.Version,
            Epoch = theirs.Epoch,
            AgentVersion = typeof(MachineServer).Assembly.GetName().Version?.ToString(3) ?? "0",
            BootId = _bootId,
        };
        foreach (var execution in machine.Executions.Values)
        {
            execution.Reconnected();
            var (first, next) = execution.Events.Suspend();
            hello.Executions.Add(new RunningExecution { Stream = execution.Stream, ExecutionId = execution.Request.ExecutionId, FirstRetainedSeq = first, NextSeq = next });
        }

        _epoch = epoch;
        machine.Outbox.Send(new Frame { Hello = hello });
    }

    private void Handle(Frame frame)
    {
        switch (frame.BodyCase)
        {
            case Frame.BodyOneofCase.Ping:
                machine.Outbox.Send(new Frame { Pong = new Pong { Nonce = frame.Ping.Nonce } });
                break;
            case Frame.BodyOneofCase.Request:
                Answer(frame.Stream, frame.Request);
                break;
            case Frame.BodyOneofCase.Input when machine.Executions.TryGetValue(frame.Stream, out var execution):
                Input(execution, frame.Input);
                break;
        }
    }

    private void Input(Execution execution, ExecutionInput input)
    {
        switch (input.InputCase)
        {
            case ExecutionInput.InputOneofCase.Ack:
                execution.Events.Acknowledge(input.Ack);
                if (execution.Events.Finished)
                {
                    machine.Executions.TryRemove(execution.Stream, out _);
                }

                break;
            case ExecutionInput.InputOneofCase.Stdin:
                execution.Stdin(input.Stdin);
                break;
            case ExecutionInput.InputOneofCase.Signal:
                execution.Signal(input.Signal.Number);
                break;
            case ExecutionInput.InputOneofCase.Replay:
                execution.Events.Replay(input.Replay.AfterSeq);
                break;
        }
    }

    private void Answer(ulong stream, Request request)
    {
        if (request.OpCase == Request.OpOneofCase.Start)
        {
            // In the order of arrival; nothing of it takes long.
            var response = Guarded(() => Start(stream, request.Start));
            machine.Outbox.Send(new Frame { Stream = stream, Response = response });
            if (response.ResultCase == Response.ResultOneofCase.Started && machine.Executions.TryGetValue(stream, out var execution))
            {
                execution.Events.Replay(0);
                execution.Answered();
            }
        }
        else if (Interlocked.Increment(ref _underWay) > MaxUnderWay)
        {
            Interlocked.Decrement(ref _underWay);
            machine.Outbox.Send(new Frame { Stream = stream, Response = Failure(ErrorCode.ResourceExhausted, $"{MaxUnderWay} requests are under way already.", 0) });
        }
        else
        {
            _ = Task.Run(() =>
            {
                var response = Guarded(() => Respond(stream, request));
                Interlocked.Decrement(ref _underWay);
                machine.Outbox.Send(new Frame { Stream = stream, Response = response });
                if (_watches.TryGetValue(stream, out var watch))
                {
                    // Its first event must not come before the answer.
                    watch.Begin();
                }
            });
        }
    }

    private static Response Guarded(Func<Response> work)
    {
        try
        {
            return work();
        }
        catch (WorkerException e)
        {
            return Failure(e.Code, e.Message, e.Errno);
        }
        catch (Volume.VolumeException e)
        {
            return Failure(WorkerException.Of(e, "").Code, e.Message, (int)e.Errno);
        }
        catch (Exception e)
        {
            // A bug of ours must not take the machine's other executions with it.
            return Failure(ErrorCode.Internal, $"{e.GetType().Name}: {e.Message}", 0);
        }
    }

    private Response Respond(ulong stream, Request request) => request.OpCase switch
    {
        Request.OpOneofCase.ListExecutions => ListExecutions(),
        Request.OpOneofCase.Reseed => Reseed(request.Reseed),
        Request.OpOneofCase.Metrics => new Response { Metrics = Metrics() },
        Request.OpOneofCase.CreateContext => new Response { Context = _contexts.Create(request.CreateContext).Describe() },
        Request.OpOneofCase.ListContexts => new Response { Contexts = _contexts.List() },
        Request.OpOneofCase.RestartContext => new Response { Context = _contexts.Restart(request.RestartContext.ContextId).Describe() },
        Request.OpOneofCase.RemoveContext => Done(() => _contexts.Remove(request.RemoveContext.ContextId)),
        Request.OpOneofCase.Sync => Done(() => machine.Volume.Commit(flush: true)),
        Request.OpOneofCase.Stat => new Response { File = _files.Stat(request.Stat) },
        Request.OpOneofCase.List => new Response { Files = _files.List(request.List) },
        Request.OpOneofCase.Mkdir => new Response { File = _files.MakeDirectory(request.Mkdir) },
        Request.OpOneofCase.Move => new Response { File = _files.Move(request.Move) },
        Request.OpOneofCase.Remove => Done(() => _files.Remove(request.Remove)),
        Request.OpOneofCase.OpenFile => new Response { Handle = _handles.Open(request.OpenFile) },
        Request.OpOneofCase.Read => new Response { Chunk = _handles.Read(request.Read) },
        Request.OpOneofCase.Write => Done(() => _handles.Write(request.Write)),
        Request.OpOneofCase.CloseFile => _handles.Close(request.CloseFile),
        Request.OpOneofCase.Watch => Watch(stream, request.Watch),
        Request.OpOneofCase.Unwatch => Done(() => StopWatching(request.Unwatch.WatchStream)),
        Request.OpOneofCase.OpenPort => throw new WorkerException(ErrorCode.NotFound, $"Nobody listens on port {request.OpenPort.Port}: this session is WebAssembly, which has no network."),
        _ => throw new WorkerException(ErrorCode.Unsupported, "This worker does not know the request."),
    };

    private Response Start(ulong stream, StartExecution start)
    {
        Forget();
        if (machine.Executions.Count >= ProtocolLimits.MaxExecutions)
        {
            throw new WorkerException(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxExecutions} executions run already; wait for one to end.");
        }

        Execution execution = start.WhatCase switch
        {
            StartExecution.WhatOneofCase.Command => new ModuleExecution(stream, start, machine),
            StartExecution.WhatOneofCase.Code => new CodeExecution(stream, start, machine, _contexts.Get(start.Code.ContextId)),
            _ => throw new WorkerException(ErrorCode.InvalidArgument, "An execution is a command or code."),
        };
        if (!machine.Executions.TryAdd(stream, execution))
        {
            throw new WorkerException(ErrorCode.AlreadyExists, "The stream is in use.");
        }

        try
        {
            execution.Start();
        }
        catch
        {
            machine.Executions.TryRemove(stream, out _);
            throw;
        }

        return new Response { Started = new ExecutionStarted { Pid = execution.Pid } };
    }

    /// <summary>Drops executions whose last event is acknowledged.</summary>
    private void Forget()
    {
        foreach (var (stream, execution) in machine.Executions)
        {
            if (execution.Events.Finished)
            {
                machine.Executions.TryRemove(stream, out _);
            }
        }
    }

    private Response ListExecutions()
    {
        var list = new ExecutionList();
        var size = 0;
        foreach (var execution in machine.Executions.Values.Where(e => !e.Events.Ended).Take(ProtocolLimits.MaxExecutions))
        {
            var summary = execution.Summarize();
            size += summary.CalculateSize() + 8;
            if (size > ProtocolLimits.MaxFrameBytes - 1024)
            {
                break;
            }

            list.Executions.Add(summary);
        }

        return new Response { Executions = list };
    }

    /// <summary>Guests draw their randomness and their time from the worker's kernel at every call, and no guest was ever copied: there is nothing to seed anew.</summary>
    private Response Reseed(Reseed request)
    {
        if (request.Entropy.Length is < 32 or > 4096)
        {
            throw new WorkerException(ErrorCode.InvalidArgument, "Entropy is 32 to 4096 bytes.");
        }

        machine.Hostname = request.Hostname.Length is > 0 and <= 63 ? request.Hostname : machine.Hostname;
        return new Response { Empty = new Empty() };
    }

    private Metrics Metrics()
    {
        var (total, free) = machine.Volume.Space();
        var running = machine.Executions.Values.Count(e => !e.Events.Ended);
        return new Metrics
        {
            MemoryTotal = (ulong)machine.Allowance.MemoryBytes,
            MemoryAvailable = (ulong)Math.Max(0, machine.Allowance.MemoryBytes - machine.Allowance.MemoryUsed),
            DiskTotal = (ulong)total,
            DiskFree = (ulong)free,
            Vcpus = (uint)machine.Vcpus,
            CpuBusyMs = (ulong)machine.Allowance.Spent.TotalMilliseconds,
            Processes = (uint)running,
            UnixNanos = (DateTimeOffset.UtcNow - DateTimeOffset.UnixEpoch).Ticks * 100,
            UptimeMs = (ulong)(Environment.TickCount64 - _began),
        };
    }

    private Response Watch(ulong stream, Watch request)
    {
        WasmMachine.RequireUser(request.User);
        if (_watches.Count >= ProtocolLimits.MaxWatches)
        {
            throw new WorkerException(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxWatches} directories are watched already.");
        }

        _watches[stream] = new VolumeWatch(stream, machine, WasmMachine.PathFrom(WasmMachine.Home, request.Path), request.Recursive);
        return new Response { Empty = new Empty() };
    }

    private void StopWatching(ulong stream)
    {
        if (_watches.TryRemove(stream, out var watch))
        {
            watch.Dispose();
        }
    }

    private static Response Done(Action work)
    {
        work();
        return new Response { Empty = new Empty() };
    }

    private static Response Failure(ErrorCode code, string message, int errno) =>
        new() { Error = new Error { Code = code, Message = message.Length > 1024 ? message[..1024] : message, Errno = errno } };
}
