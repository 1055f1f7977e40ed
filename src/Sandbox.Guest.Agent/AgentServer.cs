using System.Collections.Concurrent;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Agent.Contexts;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Files;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Agent.Ports;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent;

/// <summary>Serves the host: reads its frames in order and answers each request. Executions, contexts and files live here, not in a connection.</summary>
internal sealed class AgentServer(Endpoint endpoint, Surroundings surroundings)
{
    /// <summary>Requests worked on at once, beside executions.</summary>
    private const int MaxUnderWay = 256;

    private readonly Outbox _outbox = new();
    private readonly ConcurrentDictionary<ulong, Execution> _executions = new();
    private readonly ConcurrentDictionary<ulong, DirectoryWatch> _watches = new();
    private readonly ContextTable _contexts = new();
    private readonly HandleTable _handles = new();
    private readonly PortTable _ports = new();
    private byte[] _epoch = [];
    private int _underWay;

    public void Run()
    {
        UserThread.Prepare();
        while (true)
        {
            var stream = endpoint.Accept();
            try
            {
                Serve(stream);
            }
            catch (IOException)
            {
                // The other end is gone; the next one begins anew.
            }

            _outbox.End();
            _epoch = [];
            endpoint.Ended(stream);
        }
    }

    private void Serve(Stream stream)
    {
        var source = new FrameSource(stream);
        while (source.Read() is { } frame)
        {
            if (frame.BodyCase == Frame.BodyOneofCase.Hello)
            {
                Greet(stream, frame.Hello);
            }
            else if (_epoch.Length > 0)
            {
                _outbox.WaitForRoom();
                try
                {
                    Handle(frame);
                }
                catch (Exception e) when (Threads.CannotBeMade(e))
                {
                    // .NET's own pool wanted one more. The request is in its queue by then, and is served by a thread that it has or gets.
                }
            }
        }
    }

    private void Greet(Stream stream, Hello theirs)
    {
        var epoch = theirs.Epoch.ToByteArray();
        if (epoch.Length != 16 || epoch.AsSpan().SequenceEqual(_epoch))
        {
            return;
        }

        // Nothing of the old connection may be said on the new one: answers under way are dropped, and events wait for their `replay`.
        _outbox.End();
        foreach (var watch in _watches.Values)
        {
            watch.Stop();
        }

        _watches.Clear();
        _ports.CloseAll();
        _ = UserThread.RunAsync(User.Root, _handles.CloseAll);
        Forget();
        var hello = new Hello
        {
            Version = ProtocolLimits.Version,
            Epoch = theirs.Epoch,
            AgentVersion = typeof(AgentServer).Assembly.GetName().Version?.ToString(3) ?? "0",
            BootId = Identity.BootId,
        };
        foreach (var execution in _executions.Values)
        {
            execution.Reconnected();
            var (first, next) = execution.Events.Suspend();
            hello.Executions.Add(new RunningExecution
            {
                Stream = execution.Stream,
                ExecutionId = execution.Request.ExecutionId,
                FirstRetainedSeq = first,
                NextSeq = next,
            });
        }

        _epoch = epoch;
        _outbox.Begin(stream, new Frame { Hello = hello });
    }

    private void Handle(Frame frame)
    {
        switch (frame.BodyCase)
        {
            case Frame.BodyOneofCase.Ping:
                _outbox.Send(new Frame { Pong = new Pong { Nonce = frame.Ping.Nonce } });
                break;
            case Frame.BodyOneofCase.Request:
                Answer(frame.Stream, frame.Request);
                break;
            case Frame.BodyOneofCase.Input when _executions.TryGetValue(frame.Stream, out var execution):
                Input(execution, frame.Input);
                break;
            case Frame.BodyOneofCase.PortData:
                _ports.Find(frame.Stream)?.Take(frame.PortData);
                break;
            case Frame.BodyOneofCase.PortCredit:
                _ports.Find(frame.Stream)?.Grant(frame.PortCredit.Bytes);
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
                    _executions.TryRemove(execution.Stream, out _);
                }

                break;
            case ExecutionInput.InputOneofCase.Stdin:
                execution.Stdin(input.Stdin);
                break;
            case ExecutionInput.InputOneofCase.Signal:
                execution.Signal(input.Signal.Number);
                break;
            case ExecutionInput.InputOneofCase.Resize:
                execution.Resize(input.Resize);
                break;
            case ExecutionInput.InputOneofCase.Replay:
                execution.Events.Replay(input.Replay.AfterSeq);
                break;
        }
    }

    private void Answer(ulong stream, Request request)
    {
        var epoch = _outbox.Epoch;
        if (request.OpCase == Request.OpOneofCase.Start)
        {
            // In the order of arrival, so that an execution is in the next hello or was never started.
            var response = Guarded(() => Task.FromResult(Start(stream, request.Start))).GetAwaiter().GetResult();
            _outbox.Send(new Frame { Stream = stream, Response = response }, epoch);
            if (response.ResultCase == Response.ResultOneofCase.Started && _executions.TryGetValue(stream, out var execution))
            {
                execution.Events.Open();
                execution.Answered();
            }
        }
        else if (Interlocked.Increment(ref _underWay) > MaxUnderWay)
        {
            Interlocked.Decrement(ref _underWay);
            _outbox.Send(new Frame { Stream = stream, Response = Failure(ErrorCode.ResourceExhausted, $"{MaxUnderWay} requests are under way already.", 0) }, epoch);
        }
        else
        {
            _ = Task.Run(async () =>
            {
                var response = await Guarded(() => RespondAsync(stream, request, epoch)).ConfigureAwait(false);
                Interlocked.Decrement(ref _underWay);
                _outbox.Send(new Frame { Stream = stream, Response = response }, epoch);
                if (_watches.TryGetValue(stream, out var watch))
                {
                    // Its first event must not come before the answer.
                    watch.Begin();
                }

                _ports.Find(stream)?.Begin();
            });
        }
    }

    private static async Task<Response> Guarded(Func<Task<Response>> work)
    {
        try
        {
            return await work().ConfigureAwait(false);
        }
        catch (AgentException e)
        {
            return Failure(e.Code, e.Message, e.Errno);
        }
        catch (Exception e)
        {
            // A bug of ours must not take the guest's other executions with it.
            return Failure(ErrorCode.Internal, $"{e.GetType().Name}: {e.Message}", 0);
        }
    }

    private async Task<Response> RespondAsync(ulong stream, Request request, int epoch) => request.OpCase switch
    {
        Request.OpOneofCase.Start => Start(stream, request.Start),
        Request.OpOneofCase.ListExecutions => ListExecutions(),
        Request.OpOneofCase.Reseed => await ReseedAsync(request.Reseed).ConfigureAwait(false),
        Request.OpOneofCase.Metrics => new Response { Metrics = MetricsReader.Read() },
        Request.OpOneofCase.CreateContext => new Response { Context = _contexts.Create(request.CreateContext).Describe() },
        Request.OpOneofCase.ListContexts => new Response { Contexts = _contexts.List() },
        Request.OpOneofCase.RestartContext => Restart(request.RestartContext.ContextId),
        Request.OpOneofCase.RemoveContext => Done(() => _contexts.Remove(request.RemoveContext.ContextId)),
        Request.OpOneofCase.Sync => Done(Native.Sync),
        Request.OpOneofCase.TrustAuthority => await AsAsync("root", _ => Done(() => TrustStore.Trust(request.TrustAuthority.Pem))).ConfigureAwait(false),
        Request.OpOneofCase.Stat => new Response { File = await AsAsync(request.Stat.User, u => FileOperations.Stat(u.Resolve(request.Stat.Path), request.Stat.Follow)).ConfigureAwait(false) },
        Request.OpOneofCase.List => new Response { Files = await AsAsync(request.List.User, u => FileOperations.List(request.List, u.Resolve(request.List.Path))).ConfigureAwait(false) },
        Request.OpOneofCase.Mkdir => new Response { File = await AsAsync(request.Mkdir.User, u => FileOperations.MakeDirectory(u.Resolve(request.Mkdir.Path), request.Mkdir.Parents, request.Mkdir.Mode)).ConfigureAwait(false) },
        Request.OpOneofCase.Move => new Response
        {
            File = await AsAsync(request.Move.User, u => FileOperations.Move(u.Resolve(request.Move.From), u.Resolve(request.Move.To), request.Move.Overwrite)).ConfigureAwait(false),
        },
        Request.OpOneofCase.Remove => await AsAsync(request.Remove.User, u => Done(() => FileOperations.Remove(u.Resolve(request.Remove.Path), request.Remove.Recursive))).ConfigureAwait(false),
        Request.OpOneofCase.OpenFile => new Response { Handle = await AsAsync(request.OpenFile.User, u => _handles.Open(request.OpenFile, u)).ConfigureAwait(false) },
        Request.OpOneofCase.Read => new Response { Chunk = _handles.Read(request.Read) },
        Request.OpOneofCase.Write => Done(() => _handles.Write(request.Write)),
        Request.OpOneofCase.CloseFile => await _handles.CloseAsync(request.CloseFile).ConfigureAwait(false),
        Request.OpOneofCase.Watch => await AsAsync(request.Watch.User, u => Watch(stream, request.Watch, u, epoch)).ConfigureAwait(false),
        Request.OpOneofCase.Unwatch => Done(() => StopWatching(request.Unwatch.WatchStream)),
        Request.OpOneofCase.OpenPort => await OpenPortAsync(stream, request.OpenPort.Port, epoch).ConfigureAwait(false),
        _ => throw new AgentException(ErrorCode.Unsupported, "This agent does not know the request."),
    };

    private Response Start(ulong stream, StartExecution start)
    {
        Forget();
        if (_executions.Count >= ProtocolLimits.MaxExecutions)
        {
            throw new AgentException(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxExecutions} executions run already; wait for one to end.");
        }

        Execution execution = start.WhatCase switch
        {
            StartExecution.WhatOneofCase.Command => new CommandExecution(stream, start, _outbox),
            StartExecution.WhatOneofCase.Code => new CodeExecution(stream, start, _outbox, _contexts.Get(start.Code.ContextId)),
            _ => throw new AgentException(ErrorCode.InvalidArgument, "An execution is a command or code."),
        };
        if (!_executions.TryAdd(stream, execution))
        {
            throw new AgentException(ErrorCode.AlreadyExists, "The stream is in use.");
        }

        try
        {
            execution.Start();
        }
        catch
        {
            _executions.TryRemove(stream, out _);
            throw;
        }

        return new Response { Started = new ExecutionStarted { Pid = execution.Pid } };
    }

    /// <summary>Drops executions whose last event is acknowledged.</summary>
    private void Forget()
    {
        foreach (var (stream, execution) in _executions)
        {
            if (execution.Events.Finished)
            {
                _executions.TryRemove(stream, out _);
            }
        }
    }

    private Response ListExecutions()
    {
        var list = new ExecutionList();
        var size = 0;
        foreach (var execution in _executions.Values.Where(e => !e.Events.Ended).Take(ProtocolLimits.MaxExecutions))
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

    private async Task<Response> ReseedAsync(Reseed request)
    {
        Identity.Apply(request, surroundings);
        if (!request.KeepInterpreters)
        {
            if (surroundings == Surroundings.Machine)
            {
                StaleConnections.End();
            }

            await _contexts.ReseedAsync(request.Entropy.ToByteArray()).ConfigureAwait(false);
        }

        return new Response { Empty = new Empty() };
    }

    private Response Restart(string id)
    {
        var context = _contexts.Get(id);
        context.Restart();
        return new Response { Context = context.Describe() };
    }

    private Response Watch(ulong stream, Watch request, User user, int epoch)
    {
        if (_watches.Count >= ProtocolLimits.MaxWatches)
        {
            throw new AgentException(ErrorCode.ResourceExhausted, $"{ProtocolLimits.MaxWatches} directories are watched already.");
        }

        var watch = new DirectoryWatch(stream, user.Resolve(request.Path), request.Recursive, _outbox, epoch);
        _watches[stream] = watch;
        if (epoch != _outbox.Epoch)
        {
            // The connection that asked has been cut meanwhile.
            StopWatching(stream);
        }

        return new Response { Empty = new Empty() };
    }

    private async Task<Response> OpenPortAsync(ulong stream, uint port, int epoch)
    {
        await _ports.OpenAsync(stream, port, _outbox, epoch).ConfigureAwait(false);
        if (epoch != _outbox.Epoch)
        {
            // The connection that asked has been cut meanwhile.
            _ports.Find(stream)?.Close();
        }

        return new Response { Empty = new Empty() };
    }

    private void StopWatching(ulong stream)
    {
        if (_watches.TryRemove(stream, out var watch))
        {
            watch.Stop();
        }
    }

    private static Task<T> AsAsync<T>(string user, Func<User, T> work)
    {
        var found = User.Find(user);
        return UserThread.RunAsync(found, () => work(found));
    }

    private static Response Done(Action work)
    {
        work();
        return new Response { Empty = new Empty() };
    }

    private static Response Failure(ErrorCode code, string message, int errno) =>
        new() { Error = new Error { Code = code, Message = message.Length > 1024 ? message[..1024] : message, Errno = errno } };
}
