using System.Collections.Concurrent;
using Google.Protobuf;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Artifacts;
using Sandbox.Grains.Hosts.Executions;
using Sandbox.Grains.Output;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Request = Sandbox.Guest.Protocol.Request;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Executions inside this host's microVMs, and everything else that is asked of a guest.</summary>
internal sealed partial class HostRuntime
{
    private readonly ConcurrentDictionary<string, byte> _pumped = new(StringComparer.Ordinal);

    /// <summary>Starts an execution and the pump of its output; returns its process id. Repeating it for a known execution returns the same.</summary>
    public async Task<int> StartExecutionAsync(string vmId, long generation, string executionId, ExecutionRequest request)
    {
        var machine = Get(vmId, generation);
        if (machine.Executions.TryGetValue(executionId, out var known))
        {
            return (int)known.Guest.Pid;
        }

        Interlocked.Increment(ref machine.StartsUnderWay);
        try
        {
            return await StartNewExecutionAsync(machine, executionId, request);
        }
        finally
        {
            Interlocked.Decrement(ref machine.StartsUnderWay);
        }
    }

    private async Task<int> StartNewExecutionAsync(LiveMicroVm machine, string executionId, ExecutionRequest request)
    {
        var guest = await AskAsync(ct => machine.Machine!.Guest.StartExecutionAsync(GuestRequests.Start(executionId, request, _collector.Limit), ct));
        var facts = new ExecutionFacts
        {
            Timeout = request.Timeout,
            Grace = request.Grace ?? TimeSpan.FromMilliseconds(ProtocolLimits.DefaultGraceMs),
            IsCode = request.Code is not null,
            MemoryMiB = machine.Start.MemoryMiB,
            OutputLimit = request.OutputLimitBytes ?? _options.DefaultOutputLimitBytes,
            User = request.User ?? "",
        };
        var publisher = OutputPublisher.ForStream(Streams, executionId, _logger);

        // Claimed before the log exists: a reader that finds an unclaimed log without an exit takes its writer for dead.
        _pumped[executionId] = 0;
        var log = Logs.Create(machine.SessionId, executionId);
        StartPump(machine, executionId, new ExecutionPump(guest, log, publisher, CollectorOf(machine), facts, null, machine.Ended, _clock, _logger), publisher);
        return (int)Math.Min(guest.Pid, int.MaxValue);
    }

    private Func<ChangedFiles, string, CancellationToken, Task<List<PendingEvent>>> CollectorOf(LiveMicroVm machine) => (changed, user, cancellationToken) =>
        _collector.CollectAsync(new ArtifactOwner(machine.Machine!.Guest, TenantOf(machine.SessionId) ?? "", machine.SessionId), user, changed, cancellationToken);

    private void StartPump(LiveMicroVm machine, string executionId, ExecutionPump pump, OutputPublisher publisher)
    {
        machine.Executions[executionId] = pump;
        using (ExecutionContext.SuppressFlow())
        {
            machine.Pumps[executionId] = Task.Run(() => PumpAsync(machine, executionId, pump, publisher));
        }
    }

    /// <summary>Writes to an execution's standard input.</summary>
    public Task WriteStdinAsync(string vmId, long generation, string executionId, ReadOnlyMemory<byte> data, bool endOfFile) =>
        AskAsync(ct => Execution(vmId, generation, executionId).Guest.WriteStdinAsync(data, endOfFile, ct).AsTask());

    /// <summary>Sends a signal to an execution.</summary>
    public Task SignalAsync(string vmId, long generation, string executionId, int signal) =>
        AskAsync(ct => Execution(vmId, generation, executionId).SignalAsync(signal, ct).AsTask());

    /// <summary>Resizes an execution's terminal.</summary>
    public Task ResizeAsync(string vmId, long generation, string executionId, TerminalSize size) =>
        AskAsync(ct => Execution(vmId, generation, executionId).Guest.ResizeAsync((uint)size.Columns, (uint)size.Rows, ct).AsTask());

    /// <summary>One unary request to a guest.</summary>
    public async Task<byte[]> RequestAsync(string vmId, long generation, byte[] request)
    {
        Request parsed;
        try
        {
            parsed = Request.Parser.ParseFrom(request);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new SandboxException(SandboxErrorCode.InvalidArgument, "Not a guest request: " + e.Message);
        }

        if (parsed.OpCase is Request.OpOneofCase.None or Request.OpOneofCase.Start or Request.OpOneofCase.Watch or Request.OpOneofCase.OpenPort)
        {
            throw new SandboxException(SandboxErrorCode.InvalidArgument, $"A guest request of kind {parsed.OpCase} is not unary.");
        }

        var machine = Get(vmId, generation);
        var answer = await AskAsync(ct => machine.Machine!.Guest.RequestAsync(parsed, ct));
        return answer.ToByteArray();
    }

    /// <summary>
    /// The exit of an execution that does not run here. If its log has none (the host died under it), <paramref name="exit"/> is written as its last record:
    /// nobody else can ever write to that log again. <see langword="null"/>: it runs.
    /// </summary>
    public ExecutionExit? Seal(string sessionId, string executionId, ExecutionExit exit)
    {
        if (IsPumped(executionId))
        {
            return null;
        }

        var log = Logs.Find(sessionId, executionId) ?? Logs.Create(sessionId, executionId);
        if (!log.IsComplete)
        {
            try
            {
                log.Append([new PendingEvent(OutputKind.Exit, _clock.GetUtcNow(), OutputJson.Write(exit))]);
            }
            catch (InvalidOperationException)
            {
                // Somebody sealed it at the same moment.
            }
        }

        return log.Exit;
    }

    /// <summary>Whether an execution's output is still being carried into its log.</summary>
    public bool IsPumped(string executionId) => _pumped.ContainsKey(executionId);

    /// <summary>Whether an execution's output stands still here until its session is resumed, or goes on elsewhere.</summary>
    public bool IsSuspended(string executionId) => !IsPumped(executionId) && _suspended.Contains(executionId);

    private ExecutionPump Execution(string vmId, long generation, string executionId) =>
        Get(vmId, generation).Executions.TryGetValue(executionId, out var pump)
            ? pump
            : throw SandboxException.Conflict($"Execution {executionId} does not run any more.");

    private async Task PumpAsync(LiveMicroVm machine, string executionId, ExecutionPump pump, OutputPublisher publisher)
    {
        var exit = await pump.RunAsync();
        machine.Executions.TryRemove(executionId, out _);
        _pumped.TryRemove(executionId, out _);
        if (exit is not null)
        {
            _ = Task.Run(() => TellSessionAsync(machine.SessionId, s => s.OnExecutionEndedAsync(machine.Generation, executionId, exit)));
        }

        await publisher.DisposeAsync();
        machine.Pumps.TryRemove(executionId, out _);
    }

    private async Task<T> AskAsync<T>(Func<CancellationToken, Task<T>> ask)
    {
        try
        {
            return await AskGuestAsync(ask);
        }
        catch (GuestException e)
        {
            throw GuestRequests.ToSandbox(e);
        }
    }

    /// <summary>The same, for a caller that has words of its own for what the guest refuses.</summary>
    private async Task<T> AskGuestAsync<T>(Func<CancellationToken, Task<T>> ask)
    {
        using var deadline = new CancellationTokenSource(_options.GuestRequestTimeout);
        try
        {
            return await ask(deadline.Token);
        }
        catch (GuestUnavailableException e)
        {
            throw SandboxException.Unavailable("The guest cannot be reached: " + e.Message);
        }
        catch (OperationCanceledException) when (deadline.IsCancellationRequested)
        {
            throw new SandboxException(SandboxErrorCode.DeadlineExceeded, $"The guest did not answer within {_options.GuestRequestTimeout.TotalSeconds:0} s.");
        }
    }

    private Task<bool> AskAsync(Func<CancellationToken, Task> ask) => AskAsync(async ct =>
    {
        await ask(ct);
        return true;
    });
}
