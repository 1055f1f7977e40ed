using Sandbox.Abstractions;
using Sandbox.E2b.Connect;
using Sandbox.E2b.Data;
using Sandbox.E2b.Protos.Process;
using Sandbox.Gateway;
using Sandbox.Gateway.Executions;

namespace Sandbox.E2b.Envd.Process;

/// <summary>The service <c>process.Process</c>: processes are executions of the session, their streams are its output logs.</summary>
internal sealed class ProcessService(IOutputSource outputs, GatewayOptions options)
{
    private const int MaxStdinChunk = 64 * 1024;

    /// <summary>Serves a call; <see langword="null"/>: there is no such procedure.</summary>
    public Task? TryHandleAsync(DataCall call, string procedure)
    {
        var executions = call.Session<ISessionExecutions>();
        return procedure switch
        {
            "List" => ConnectRpc.UnaryAsync<ListRequest, ListResponse>(call, _ => ListAsync(executions)),
            "Start" => ConnectRpc.ServerStreamAsync<StartRequest, StartResponse>(call, options, (request, output) => StartAsync(call, executions, request, output)),
            "Connect" => ConnectRpc.ServerStreamAsync<ConnectRequest, ConnectResponse>(call, options, (request, output) => ConnectAsync(call, executions, request, output)),
            "Update" => ConnectRpc.UnaryAsync<UpdateRequest, UpdateResponse>(call, request => UpdateAsync(executions, request)),
            "SendInput" => ConnectRpc.UnaryAsync<SendInputRequest, SendInputResponse>(call, request => SendInputAsync(executions, request)),
            "StreamInput" => ConnectRpc.ClientStreamAsync<StreamInputRequest, StreamInputResponse>(call, requests => StreamInputAsync(executions, requests)),
            "SendSignal" => ConnectRpc.UnaryAsync<SendSignalRequest, SendSignalResponse>(call, request => SendSignalAsync(executions, request)),
            "CloseStdin" => ConnectRpc.UnaryAsync<CloseStdinRequest, CloseStdinResponse>(call, request => CloseStdinAsync(executions, request)),
            _ => null,
        };
    }

    private async Task StartAsync(DataCall call, ISessionExecutions executions, StartRequest request, ConnectOutput<StartResponse> output)
    {
        var wanted = request.Process ?? throw SandboxException.Invalid("process", "There is nothing to start: process is missing.");
        var started = await StartAsync(
            executions,
            new ExecutionRequest
            {
                Argv = [wanted.Cmd, .. wanted.Args],
                Env = new Dictionary<string, string>(wanted.Envs, StringComparer.Ordinal),
                Cwd = wanted.HasCwd && wanted.Cwd.Length > 0 ? wanted.Cwd : null,
                User = call.User,
                Pty = request.Pty is null ? null : SizeOf(request.Pty),
                OpenStdin = !request.HasStdin || request.Stdin,
                Tag = request.HasTag && request.Tag.Length > 0 ? request.Tag : null,
                Timeout = output.Deadline.Timeout,
            });
        if (started.Pid == 0)
        {
            // Started, but its answer was lost: the index may know by now.
            started = await executions.GetExecutionAsync(started.Id);
        }

        await FollowAsync(call, started, output, e => new StartResponse { Event = e });
    }

    private static async Task<ExecutionInfo> StartAsync(ISessionExecutions executions, ExecutionRequest request)
    {
        try
        {
            return await executions.StartExecutionAsync(request, null);
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound && !e.Message.StartsWith("There is no ", StringComparison.Ordinal))
        {
            // The program or its directory: for E2B a wrong argument. "There is no" session and no user are other things.
            throw new SandboxException(SandboxErrorCode.InvalidArgument, e.Message);
        }
    }

    private async Task ConnectAsync(DataCall call, ISessionExecutions executions, ConnectRequest request, ConnectOutput<ConnectResponse> output) =>
        await FollowAsync(call, await ProcessLookup.AnyAsync(executions, request.Process), output, e => new ConnectResponse { Event = e });

    /// <summary>All output from its beginning, and then what comes. The caller may leave; the process goes on.</summary>
    private async Task FollowAsync<T>(DataCall call, ExecutionInfo execution, ConnectOutput<T> output, Func<ProcessEvent, T> wrap)
        where T : Google.Protobuf.IMessage
    {
        await output.WriteAsync(wrap(ProcessEvents.Start(execution.Pid)));
        await output.FollowAsync(
            CompletedOutput.ReadAsync(outputs, call.Grains, call.SessionId, execution.Id, 1, output.Deadline.Token),
            async e =>
            {
                if (ProcessEvents.Of(e, execution.HasPty) is { } said)
                {
                    await output.WriteAsync(wrap(said));
                }

                return e.Kind != OutputKind.Exit;
            },
            wrap(ProcessEvents.KeepAlive));
    }

    private static async Task<ListResponse> ListAsync(ISessionExecutions executions)
    {
        var list = new ListResponse();
        foreach (var execution in await ProcessLookup.ListAsync(executions))
        {
            // Started by a line for a shell, or by code of an earlier version: what is known is its title.
            var argv = execution.Argv ?? [execution.Title];
            var config = new ProcessConfig { Cmd = argv[0], Args = { argv.Skip(1) } };
            if (execution.Cwd is { } cwd)
            {
                config.Cwd = cwd;
            }

            var info = new ProcessInfo { Pid = (uint)execution.Pid, Config = config };
            if (execution.Tag is { } tag)
            {
                info.Tag = tag;
            }

            list.Processes.Add(info);
        }

        return list;
    }

    private static async Task<UpdateResponse> UpdateAsync(ISessionExecutions executions, UpdateRequest request)
    {
        var execution = await ProcessLookup.RunningAsync(executions, request.Process);
        if (request.Pty is { } pty)
        {
            await executions.ResizeAsync(execution.Id, SizeOf(pty));
        }

        return new UpdateResponse();
    }

    private static async Task<SendInputResponse> SendInputAsync(ISessionExecutions executions, SendInputRequest request)
    {
        await WriteAsync(executions, await ProcessLookup.RunningAsync(executions, request.Process), request.Input);
        return new SendInputResponse();
    }

    private static async Task<StreamInputResponse> StreamInputAsync(ISessionExecutions executions, IAsyncEnumerable<StreamInputRequest> requests)
    {
        ExecutionInfo? execution = null;
        await foreach (var request in requests)
        {
            switch (request.EventCase)
            {
                case StreamInputRequest.EventOneofCase.Start when execution is null:
                    execution = await ProcessLookup.RunningAsync(executions, request.Start.Process);
                    break;
                case StreamInputRequest.EventOneofCase.Data when execution is not null:
                    await WriteAsync(executions, execution, request.Data.Input);
                    break;
                case StreamInputRequest.EventOneofCase.Keepalive:
                    break;
                default:
                    throw SandboxException.Invalid("event", "The first event of a stream of input is its one start; data follow.");
            }
        }

        return new StreamInputResponse();
    }

    private static async Task WriteAsync(ISessionExecutions executions, ExecutionInfo execution, ProcessInput? input)
    {
        var data = input?.InputCase switch
        {
            ProcessInput.InputOneofCase.Stdin when !execution.HasPty => input.Stdin,
            ProcessInput.InputOneofCase.Pty when execution.HasPty => input.Pty,
            ProcessInput.InputOneofCase.Stdin or ProcessInput.InputOneofCase.Pty => throw SandboxException.Invalid(
                "input", execution.HasPty ? "The process has a terminal: its input is 'pty', not 'stdin'." : "The process has no terminal: its input is 'stdin', not 'pty'."),
            _ => throw SandboxException.Invalid("input", "There is no input: one of stdin and pty must be set."),
        };
        for (var rest = data.Memory; rest.Length > 0; rest = rest[Math.Min(rest.Length, MaxStdinChunk)..])
        {
            await executions.WriteStdinAsync(execution.Id, rest[..Math.Min(rest.Length, MaxStdinChunk)], endOfFile: false);
        }
    }

    private static async Task<SendSignalResponse> SendSignalAsync(ISessionExecutions executions, SendSignalRequest request)
    {
        if (request.Signal is not (Signal.Sigterm or Signal.Sigkill))
        {
            throw SandboxException.Invalid("signal", "The signal must be SIGNAL_SIGTERM or SIGNAL_SIGKILL.");
        }

        var execution = await ProcessLookup.RunningAsync(executions, request.Process);
        try
        {
            await executions.SignalAsync(execution.Id, (int)request.Signal);
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.Conflict)
        {
            if ((await executions.GetExecutionAsync(execution.Id)).State != ExecutionState.Ended)
            {
                throw;
            }

            // It ended on its own meanwhile, and is as good as never found.
            throw SandboxException.NotFound(e.Message);
        }

        return new SendSignalResponse();
    }

    private static async Task<CloseStdinResponse> CloseStdinAsync(ISessionExecutions executions, CloseStdinRequest request)
    {
        var execution = await ProcessLookup.RunningAsync(executions, request.Process);
        if (execution.HasPty)
        {
            throw SandboxException.Conflict("A terminal's input is not closed; send it Ctrl+D (byte 4).");
        }

        await executions.WriteStdinAsync(execution.Id, ReadOnlyMemory<byte>.Empty, endOfFile: true);
        return new CloseStdinResponse();
    }

    private static TerminalSize SizeOf(PTY pty) => pty.Size is { } size
        ? new TerminalSize((int)Math.Min(size.Cols, int.MaxValue), (int)Math.Min(size.Rows, int.MaxValue))
        : throw SandboxException.Invalid("pty", "The terminal's size is missing.");
}
