using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Executions;
using Sandbox.Grains.Sessions.State;
using Sandbox.Grains.Sessions.Validation;

namespace Sandbox.Grains.Sessions;

/// <summary>Executions.</summary>
internal sealed partial class SessionGrain
{
    private const int MaxStdinBytes = 64 * 1024;
    private const int MaxRunning = 256;
    private readonly Dictionary<string, (string Fingerprint, Task<ExecutionInfo> Start)> _starting = new(StringComparer.Ordinal);

    /// <summary>Executions that have begun, until that is stored.</summary>
    private readonly Dictionary<string, ExecutionInfo> _begun = new(StringComparer.Ordinal);

    public async Task<ExecutionInfo> StartExecutionAsync(ExecutionRequest request, string? idempotencyKey)
    {
        RequireExists();
        ExecutionValidation.Check(request);
        Idempotency.Validate(idempotencyKey);
        if (idempotencyKey is null)
        {
            return await StartNewExecutionAsync(request, null, "");
        }

        var fingerprint = Idempotency.Fingerprint(request);
        if (_starting.TryGetValue(idempotencyKey, out var started))
        {
            return started.Fingerprint == fingerprint
                ? await started.Start
                : throw SandboxException.Conflict($"Idempotency key '{idempotencyKey}' is being used for a different request. Use a new key for a new request.");
        }

        if (Idempotency.Find(_executions.Keys, idempotencyKey, "startExecution", fingerprint) is { } record && _executions.Find(record.Result) is { } known)
        {
            return known;
        }

        var start = StartNewExecutionAsync(request, idempotencyKey, fingerprint);
        _starting[idempotencyKey] = (fingerprint, start);
        try
        {
            return await start;
        }
        finally
        {
            _starting.Remove(idempotencyKey);
        }
    }

    public Task<ExecutionInfo> GetExecutionAsync(string executionId)
    {
        RequireExists();
        return Task.FromResult(FindExecution(executionId));
    }

    public Task<IReadOnlyList<ExecutionInfo>> ListExecutionsAsync(int limit)
    {
        RequireExists();
        return limit is >= 1 and <= ExecutionIndex.Capacity
            ? Task.FromResult<IReadOnlyList<ExecutionInfo>>([.. _executions.List(limit).Select(Known)])
            : throw SandboxException.Invalid("limit", $"{limit} is outside 1 to {ExecutionIndex.Capacity}.");
    }

    public async Task WriteStdinAsync(string executionId, ReadOnlyMemory<byte> data, bool endOfFile)
    {
        if (data.Length > MaxStdinBytes)
        {
            throw new SandboxException(SandboxErrorCode.TooLarge, $"{data.Length} bytes of standard input in one call; at most {MaxStdinBytes} are allowed.", "data");
        }

        await AskExecutionAsync(executionId, (vm, d) => vm.WriteStdinAsync(d.Generation, executionId, data, endOfFile));
    }

    public async Task SignalAsync(string executionId, int signal)
    {
        if (signal is < 1 or > 31)
        {
            throw SandboxException.Invalid("signal", $"{signal} is outside 1 to 31.");
        }

        await AskExecutionAsync(executionId, (vm, d) => vm.SignalAsync(d.Generation, executionId, signal));
    }

    public async Task ResizeAsync(string executionId, TerminalSize size)
    {
        ArgumentNullException.ThrowIfNull(size);
        ExecutionValidation.CheckTerminal("pty", size);
        if (!FindExecution(executionId).HasPty)
        {
            throw SandboxException.Conflict($"Execution '{executionId}' has no terminal.");
        }

        await AskExecutionAsync(executionId, (vm, d) => vm.ResizeAsync(d.Generation, executionId, size));
    }

    public async Task OnExecutionEndedAsync(long generation, string executionId, ExecutionExit exit)
    {
        if (Document.State == SessionState.None || Document.Generation != generation)
        {
            return;
        }

        await _executions.ChangeAsync(e => e.Id == executionId ? e with { State = ExecutionState.Ended, EndedAt = Now, Exit = exit } : e);
        Touch();
        CheckPolicy(executionEnded: true);
    }

    private async Task<ExecutionInfo> StartNewExecutionAsync(ExecutionRequest request, string? key, string fingerprint)
    {
        var d = await RequireRunningAsync();
        if (_executions.Running.Count() >= MaxRunning)
        {
            throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"{MaxRunning} executions run in the session, the most there may be. Wait for some to end.");
        }

        var context = request.Code is null ? null : await EnsureContextAsync(d, request.ContextId, request.Language);
        var info = new ExecutionInfo
        {
            Id = SandboxIds.NewExecution(),
            SessionId = Id,
            HostId = d.HostId!,
            State = ExecutionState.Starting,
            Title = TitleOf(request),
            ContextId = context,
            StartedAt = Now,
            Generation = d.Generation,
            HasPty = request.Pty is not null,
            Tag = request.Tag,
            Argv = ExecutionIndex.Clip(request.Argv),
            Cwd = request.Cwd,
        };

        // Stored before it starts: an id that a caller has seen can always be asked for, and its key starts nothing twice.
        await _executions.AddAsync(info, key, fingerprint);
        var complete = request with { ContextId = context, Language = null, Env = Merge(EnvOf(d), request.Env) };
        int pid;
        try
        {
            pid = await AskMachineAsync(d, vm => vm.StartExecutionAsync(d.Generation, info.Id, complete));
        }
        catch (SandboxException e)
        {
            if (!await MayHaveStartedAsync(d, info, e))
            {
                await ForgetExecutionAsync(info.Id);
                throw;
            }

            pid = 0;
        }

        var running = info with { State = ExecutionState.Running, Pid = pid };
        _begun[info.Id] = running;
        _ = QuietlyAsync(() => NoteBegunAsync(running), "noting that an execution runs");
        return running;
    }

    private async Task NoteBegunAsync(ExecutionInfo running)
    {
        try
        {
            await _executions.BegunAsync(running);
        }
        finally
        {
            _begun.Remove(running.Id);
        }
    }

    /// <summary>An execution as it is known: that it has begun its caller may have been told before it was stored.</summary>
    private ExecutionInfo Known(ExecutionInfo stored) => stored.State == ExecutionState.Starting && _begun.TryGetValue(stored.Id, out var begun) ? begun : stored;

    /// <summary>A call that got no answer may have done its work: the host knows.</summary>
    private async Task<bool> MayHaveStartedAsync(SessionDocument d, ExecutionInfo info, SandboxException error)
    {
        if (error.Code is not (SandboxErrorCode.Unavailable or SandboxErrorCode.DeadlineExceeded))
        {
            return false;
        }

        try
        {
            return await _grains.GetGrain<IHostGrain>(d.HostId!).SealExecutionAsync(Id, info.Id, ExitTranslator.NotStarted(error.Message)) is null;
        }
        catch (Exception e)
        {
            _logger.LogWarning(e, "Whether execution {Execution} started is not known", info.Id);
            return false;
        }
    }

    private Task<ExecutionsDocument> ForgetExecutionAsync(string id) => _recent.UpdateAsync(r => r with
    {
        Entries = [.. r.Entries.Where(e => e.Id != id)],
        Keys = [.. r.Keys.Where(k => k.Result != id)],
    });

    private async Task AskExecutionAsync(string executionId, Func<IMicroVmGrain, SessionDocument, Task> ask)
    {
        RequireExists();
        var execution = FindExecution(executionId);
        if (execution.State == ExecutionState.Ended)
        {
            throw SandboxException.Conflict($"Execution '{executionId}' has ended: {execution.Exit?.Message}.");
        }

        var d = await RequireRunningAsync();

        // Looked up again: a resume gives it the generation of the new machine.
        if (FindExecution(executionId).Generation != d.Generation)
        {
            throw SandboxException.Conflict($"Execution '{executionId}' was lost with its microVM.");
        }

        await AskMachineAsync(d, async vm =>
        {
            await ask(vm, d);
            return true;
        });
    }

    private ExecutionInfo FindExecution(string id) =>
        _executions.Find(id) is { } found ? Known(found) : throw SandboxException.NotFound($"There is no execution '{id}' in session '{Id}'.");

    private static Dictionary<string, string> Merge(Dictionary<string, string> session, Dictionary<string, string> own)
    {
        var env = new Dictionary<string, string>(session, StringComparer.Ordinal);
        foreach (var (name, value) in own)
        {
            env[name] = value;
        }

        return env;
    }

    private static string TitleOf(ExecutionRequest request)
    {
        var text = request.Code ?? request.Shell ?? string.Join(' ', request.Argv!);
        var line = text.TrimStart().Split('\n', 2)[0].TrimEnd('\r');
        return line.Length <= 256 ? line : line[..256];
    }
}
