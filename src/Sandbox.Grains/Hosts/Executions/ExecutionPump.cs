using System.Diagnostics.CodeAnalysis;
using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Output;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Grains.Hosts.Executions;

/// <summary>
/// Carries one execution's events from the guest into its log: append, then acknowledge to the guest, then publish. The guest's
/// window bounds what is under way, so a slow disk slows the process in the guest and never grows the host's memory.
/// </summary>
/// <remarks>
/// While its machine is saved for a pause a pump is held (<see cref="HoldAsync"/>): its log stands exactly where the snapshot says. Then it is released, or detached: it ends without a word in the log, because the
/// execution goes on after the resume.
/// </remarks>
[SuppressMessage("Design", "CA1001", Justification = "A SemaphoreSlim and a CancellationTokenSource whose handles nobody asks for hold nothing; savers may still look at a pump that has ended.")]
internal sealed class ExecutionPump
{
    private const int MaxBatchEvents = 128;
    private const int MaxBatchBytes = 64 * 1024;

    /// <summary>Each may bring 43 KiB: so few together keep to the size of a result.</summary>
    private const int MaxArtifactsAppended = 8;

    private readonly IGuestExecution _guest;
    private readonly IOutputLog _log;
    private readonly OutputPublisher _publisher;
    private readonly EventTranslator _translator;
    private readonly Func<ChangedFiles, string, CancellationToken, Task<List<PendingEvent>>> _collect;
    private readonly ExecutionFacts _facts;
    private readonly Task<string> _machineEnded;
    private readonly TimeProvider _clock;
    private readonly ILogger _logger;
    private readonly Lock _gate = new();
    private readonly List<int> _signals;
    private readonly DateTimeOffset _startedAt;
    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly CancellationTokenSource _detached = new();
    private ulong _guestSeq;
    private bool _held;

    /// <param name="guest">The execution.</param>
    /// <param name="log">Its log.</param>
    /// <param name="publisher">Its stream.</param>
    /// <param name="collect">Reads the files that the guest names, with the rights of the user named, and turns them into events. Fails only where it is cancelled.</param>
    /// <param name="facts">What is known of it.</param>
    /// <param name="from">Where it stood when its machine was saved, or <see langword="null"/> for a new one.</param>
    /// <param name="machineEnded">Completes with the reason when the machine is gone.</param>
    /// <param name="clock">The time.</param>
    /// <param name="logger">For what concerns the operator.</param>
    public ExecutionPump(
        IGuestExecution guest, IOutputLog log, OutputPublisher publisher, Func<ChangedFiles, string, CancellationToken, Task<List<PendingEvent>>> collect,
        ExecutionFacts facts, ExecutionRecord? from, Task<string> machineEnded, TimeProvider clock, ILogger logger)
    {
        _collect = collect;
        _guest = guest;
        _log = log;
        _publisher = publisher;
        _facts = facts;
        _signals = [.. facts.Signals];
        _translator = new EventTranslator(facts.OutputLimit, clock, from?.Events ?? 0, facts.OutputBytes, facts.DroppedBytes);
        _guestSeq = from?.GuestSeq ?? 0;
        _machineEnded = machineEnded;
        _clock = clock;
        _logger = logger;
        _startedAt = from?.StartedAt ?? clock.GetUtcNow();
    }

    public IGuestExecution Guest => _guest;

    /// <summary>A caller sends a signal: remembered, so that the exit can say whose it was.</summary>
    public async ValueTask SignalAsync(int signal, CancellationToken cancellationToken)
    {
        lock (_gate)
        {
            if (_signals.Count < 64)
            {
                _signals.Add(signal);
            }
        }

        await _guest.SignalAsync(signal, cancellationToken);
    }

    /// <summary>Where the execution stands. <see langword="null"/>: its exit is in the log.</summary>
    public async Task<ExecutionRecord?> LookAsync(string executionId, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken);
        try
        {
            return RecordOf(executionId);
        }
        finally
        {
            _turn.Release();
        }
    }

    /// <summary>As <see cref="LookAsync"/>, and nothing more is written until <see cref="Release"/>. Holding twice is a fault of the caller.</summary>
    public async Task<ExecutionRecord?> HoldAsync(string executionId, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken);
        _held = true;
        return RecordOf(executionId);
    }

    /// <summary>Goes on after <see cref="HoldAsync"/>; does nothing if it is not held.</summary>
    public void Release()
    {
        if (_held)
        {
            _held = false;
            _turn.Release();
        }
    }

    /// <summary>Ends a held pump without sealing its log; does nothing if it is not held.</summary>
    public void Detach()
    {
        if (_held)
        {
            _detached.Cancel();
        }
    }

    /// <summary>Runs until the execution's exit is in the log, and returns it; <see langword="null"/> if it was detached. Never fails.</summary>
    public async Task<ExecutionExit?> RunAsync()
    {
        // The guest's own window limits how much this can hold; the bound here is for a guest connection that did not keep it.
        var events = Channel.CreateBounded<ExecutionEvent>(new BoundedChannelOptions(256) { SingleReader = true, SingleWriter = true });
        using var stop = new CancellationTokenSource();
        var reader = ReadAsync(events.Writer, stop.Token);
        ExecutionExit? exit;
        try
        {
            exit = await WriteAsync(events.Reader) ?? await LostAsync();
        }
        catch (OperationCanceledException) when (_detached.IsCancellationRequested)
        {
            exit = null;
        }
        catch (Exception e)
        {
            // The log could not be written (disk full, I/O error). The process must not run on unseen.
            _logger.LogError(e, "The output log of {Execution} cannot be written", _guest.ExecutionId);
            await KillQuietlyAsync();
            exit = ExitTranslator.Lost($"its output log cannot be written: {e.Message}", Facts(), _clock.GetUtcNow() - _startedAt);
        }

        await stop.CancelAsync();
        await reader;
        return exit is null ? null : Seal(exit);
    }

    private async Task ReadAsync(ChannelWriter<ExecutionEvent> to, CancellationToken cancellationToken)
    {
        try
        {
            await foreach (var e in _guest.Events.WithCancellation(cancellationToken))
            {
                await to.WriteAsync(e, cancellationToken);
                if (e.EventCase == ExecutionEvent.EventOneofCase.Exited)
                {
                    break;
                }
            }
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException)
        {
            _logger.LogDebug(e, "Events of {Execution} ended early", _guest.ExecutionId);
        }
        catch (Exception e)
        {
            _logger.LogError(e, "Reading events of {Execution} failed", _guest.ExecutionId);
        }
        finally
        {
            to.TryComplete();
        }
    }

    /// <summary>Returns the exit, or <see langword="null"/> if the events ended without one.</summary>
    private async Task<ExecutionExit?> WriteAsync(ChannelReader<ExecutionEvent> events)
    {
        var pending = new List<PendingEvent>();
        while (await events.WaitToReadAsync(_detached.Token))
        {
            await _turn.WaitAsync(_detached.Token);
            ExecutionExit? exit;
            ExecutionEvent? changed;
            try
            {
                (exit, changed) = WriteSome(events, pending);
            }
            finally
            {
                _turn.Release();
            }

            // After its place is noted: what the guest may forget is in the log, and a snapshot taken from now on knows it.
            await AcknowledgeAsync(_guestSeq);
            if (exit is not null)
            {
                return exit;
            }

            if (changed is not null)
            {
                await WriteArtifactsAsync(changed);
            }
        }

        return null;
    }

    /// <summary>
    /// Reads the files and writes their events. A save may come while they are read: the execution then stands before them, and who restores it reads them again.
    /// </summary>
    private async Task WriteArtifactsAsync(ExecutionEvent changed)
    {
        var artifacts = await _collect(changed.ChangedFiles, _facts.User, _detached.Token);
        await _turn.WaitAsync(_detached.Token);
        try
        {
            foreach (var some in artifacts.Chunk(MaxArtifactsAppended))
            {
                _publisher.Publish(_log.Append(some));
            }

            _guestSeq = changed.Seq;
        }
        finally
        {
            _turn.Release();
        }

        await AcknowledgeAsync(_guestSeq);
    }

    /// <summary>Writes what is there, up to a bound and up to the changed files, whose place is noted only when they are read. Returns the exit if that was among it.</summary>
    private (ExecutionExit? Exit, ExecutionEvent? Changed) WriteSome(ChannelReader<ExecutionEvent> events, List<PendingEvent> pending)
    {
        pending.Clear();
        Exited? exited = null;
        ExecutionEvent? changed = null;
        var bytes = 0;
        var seq = _guestSeq;
        while (exited is null && pending.Count < MaxBatchEvents && bytes < MaxBatchBytes && events.TryRead(out var e))
        {
            if (e.EventCase == ExecutionEvent.EventOneofCase.ChangedFiles)
            {
                changed = e;
                break;
            }

            seq = e.Seq;
            if (e.EventCase == ExecutionEvent.EventOneofCase.Exited)
            {
                exited = e.Exited;
            }
            else
            {
                var before = pending.Count;
                _translator.Translate(e, pending);
                bytes += pending.Skip(before).Sum(p => p.Data.Length);
            }
        }

        if (pending.Count > 0)
        {
            _publisher.Publish(_log.Append(pending));
        }

        _guestSeq = seq;
        return (exited is null ? null : Seal(ExitTranslator.FromGuest(exited, Facts())), changed);
    }

    private async Task<ExecutionExit> LostAsync()
    {
        // The machine's watcher knows better than a closed channel why; it is given a moment to say so.
        var why = await Task.WhenAny(_machineEnded, Task.Delay(TimeSpan.FromSeconds(10))) == _machineEnded
            ? await _machineEnded
            : "its events ended without an exit";

        // A held one does not know yet whether its machine was saved.
        await _turn.WaitAsync(_detached.Token);
        _turn.Release();
        return ExitTranslator.Lost(why, Facts(), _clock.GetUtcNow() - _startedAt);
    }

    private ExecutionExit Seal(ExecutionExit exit)
    {
        if (_log.Exit is { } known)
        {
            return known;
        }

        try
        {
            _publisher.Publish(_log.Append([new PendingEvent(OutputKind.Exit, _clock.GetUtcNow(), OutputJson.Write(exit))]));
        }
        catch (Exception e)
        {
            // Nothing more can be done here: the session's index still gets the exit, and a reader's next look tries to seal the log again.
            _logger.LogError(e, "The exit of {Execution} cannot be written to its log", _guest.ExecutionId);
        }

        return exit;
    }

    private async Task AcknowledgeAsync(ulong seq)
    {
        try
        {
            await _guest.AcknowledgeAsync(seq, CancellationToken.None);
        }
        catch (Exception e) when (e is IOException or GuestException or ObjectDisposedException)
        {
            _logger.LogDebug(e, "An acknowledgement to {Execution} was lost with its guest", _guest.ExecutionId);
        }
    }

    private async Task KillQuietlyAsync()
    {
        try
        {
            await _guest.SignalAsync(9, CancellationToken.None);
        }
        catch (Exception e)
        {
            _logger.LogDebug(e, "{Execution} cannot be killed: its guest is gone", _guest.ExecutionId);
        }
    }

    private ExecutionRecord? RecordOf(string executionId) => _log.IsComplete
        ? null
        : ExecutionRecord.Of(executionId, _guest.ExecutionId, _guestSeq, _log.LastSeq, _translator.Events, _startedAt, Facts());

    private ExecutionFacts Facts()
    {
        lock (_gate)
        {
            return _facts with { Signals = [.. _signals], OutputBytes = _translator.OutputBytes, DroppedBytes = _translator.DroppedBytes };
        }
    }
}
