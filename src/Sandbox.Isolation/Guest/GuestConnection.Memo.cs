using System.Security.Cryptography;
using Microsoft.Extensions.Logging;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest.Streams;
using Sandbox.Isolation.Guest.Validation;
using Sandbox.Isolation.Guest.Wire;

namespace Sandbox.Isolation.Guest;

// Saving a guest with its machine, and going on with it in a restored one.
public sealed partial class GuestConnection
{
    /// <summary>
    /// Stops the host's side of the channel: nothing is written until the result is disposed. Asks for a sign of life before, within two seconds, so that no half frame is on its way; a guest that
    /// does not answer resynchronises when it is restored.
    /// </summary>
    /// <exception cref="GuestUnavailableException">The channel is cut or closed.</exception>
    public async Task<GuestQuiet> QuiesceAsync(CancellationToken cancellationToken)
    {
        var link = RequireLink();
        var answer = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var deadline = new CancellationTokenSource(GuestLimits.Quiescence, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, deadline.Token);
        var taking = link.TakeTurnAsync();

        // The turn ends only when the ping is written whole: releasing it in the middle would mix two frames.
        var asking = AskInTurnAsync(link, taking, answer, either.Token);
        var quiet = new GuestQuiet(this, link, asking);
        try
        {
            await asking.WaitAsync(either.Token).ConfigureAwait(false);
            await answer.Task.WaitAsync(either.Token).ConfigureAwait(false);
            quiet.Answered = true;
        }
        catch (OperationCanceledException) when (either.IsCancellationRequested)
        {
            if (cancellationToken.IsCancellationRequested)
            {
                quiet.Dispose();
                throw;
            }

            Log.NotQuiet(_logger, Name, GuestLimits.Quiescence.TotalSeconds);
        }
        catch (IOException e)
        {
            quiet.Dispose();
            throw e as GuestUnavailableException ?? new GuestUnavailableException($"The channel to guest {Name} was cut.", e);
        }

        return quiet;
    }

    /// <summary>
    /// Goes on with the guest of a restored machine, as after a cut: named executions continue behind the last event in their logs, everything else that ran is killed, watches end.
    /// </summary>
    /// <param name="stream">The byte stream; the connection owns it from now on, whatever happens.</param>
    /// <param name="memo">What the host that saved it knew.</param>
    /// <param name="restored">Executions that go on.</param>
    /// <param name="name">What logs and errors call this guest.</param>
    /// <param name="options">Deadlines.</param>
    /// <param name="logger">Where the channel's life is logged.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <returns>The connection, and an execution for each of <paramref name="restored"/>; one that the guest does not know any more fails at its first read.</returns>
    /// <exception cref="GuestUnavailableException">The guest did not answer before the deadline, is another one, or broke the protocol.</exception>
    /// <exception cref="InvalidDataException">The memo is damaged.</exception>
    public static async Task<(GuestConnection Connection, IReadOnlyList<IGuestExecution> Survivors)> RestoreAsync(
        Stream stream,
        GuestMemo memo,
        IReadOnlyList<RestoredExecution> restored,
        string name,
        GuestConnectionOptions options,
        ILogger logger,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(memo);
        ArgumentNullException.ThrowIfNull(restored);
        ArgumentNullException.ThrowIfNull(options);
        var connection = new GuestConnection(name, options, logger);
        try
        {
            var survivors = connection.Recall(memo, restored);
            await connection.JoinAsync(_ => ValueTask.FromResult(stream), cancellationToken).ConfigureAwait(false);
            return (connection, survivors);
        }
        catch
        {
            await stream.DisposeAsync().ConfigureAwait(false);
            await connection.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>See <see cref="GuestQuiet.Remember"/>.</summary>
    internal GuestMemo Remember()
    {
        lock (_gate)
        {
            var executions = _executions.Values.Select(e => e.Remember()).ToList();
            List<ulong> ended = [.. _ended];
            List<ulong> watches = [];
            foreach (var (id, start) in _lostStarts)
            {
                executions.Add(Unanswered(id, start));
            }

            foreach (var (id, stream) in _streams)
            {
                switch (stream)
                {
                    case PendingRequest { Request.OpCase: Request.OpOneofCase.Start } pending:
                        executions.Add(Unanswered(id, pending.Request.Start));
                        break;
                    case PendingRequest { Request.OpCase: Request.OpOneofCase.Watch } or GuestWatch or ClosedWatch:
                        watches.Add(id);
                        break;
                    case DroppedStream:
                        ended.Add(id);
                        break;
                }
            }

            return new GuestMemo(GuestMemo.CurrentVersion, _bootId ?? "", _nextStream, executions, [.. ended.Distinct()], watches);
        }
    }

    private static ExecutionMemo Unanswered(ulong id, StartExecution start)
    {
        var shape = ExecutionMemo.ShapeOf(start);
        return new ExecutionMemo(id, ExecutionMemo.Encode(shape), 0, false, 0, StdinMemo.Unused(new ExecutionRules(shape).HasStdin));
    }

    /// <summary>Brings the connection into the state of one that was cut.</summary>
    private List<IGuestExecution> Recall(GuestMemo memo, IReadOnlyList<RestoredExecution> restored)
    {
        (_bootId, _nextStream) = (memo.BootId, memo.NextStream);
        var known = new Dictionary<string, (ExecutionMemo Memo, StartExecution Shape)>(StringComparer.Ordinal);
        foreach (var execution in memo.Executions.OrderBy(e => e.Stream))
        {
            var shape = execution.Shape();
            known[shape.ExecutionId] = (execution, shape);
            if (execution.Exited)
            {
                // Over for the host that saved it: unless it is named below, the guest need not keep it.
                Drop(execution.Stream);
            }
            else
            {
                _lostStarts[execution.Stream] = shape;
            }
        }

        List<IGuestExecution> survivors = [];
        foreach (var (executionId, lastSeq) in restored)
        {
            if (!known.Remove(executionId, out var found))
            {
                // Unknown, or named twice.
                var unknown = new GuestExecution(new StartExecution { ExecutionId = executionId, Command = new Command() }, 0, _inputs) { Id = 0 };
                unknown.Fail(new GuestUnavailableException($"Guest {Name} was saved without execution {executionId}."));
                survivors.Add(unknown);
                continue;
            }

            var (execution, shape) = found;
            var survivor = new GuestExecution(execution, shape, lastSeq, _inputs) { Id = execution.Stream };
            _lostStarts.Remove(execution.Stream);
            _streams[execution.Stream] = survivor;
            _executions[execution.Stream] = survivor;
            survivors.Add(survivor);
        }

        foreach (var id in memo.Ended)
        {
            // One that had exited may be asked for all the same, for the end of its log.
            if (!_streams.ContainsKey(id))
            {
                Drop(id);
            }
        }

        foreach (var id in memo.Watches)
        {
            _streams.TryAdd(id, new ClosedWatch { Id = id });
        }

        return survivors;
    }

    private DroppedStream Drop(ulong id)
    {
        var dropped = new DroppedStream(_inputs) { Id = id };
        _streams[id] = dropped;
        return dropped;
    }

    /// <summary>
    /// What the guest lists and the host does not know: over for the host, the acknowledgement lost; or of unknown origin. Called under the lock; the result is run once the channel is joined.
    /// </summary>
    private List<Func<Task>> EndStrangers(IEnumerable<RunningExecution> strangers)
    {
        List<Func<Task>> ends = [];
        foreach (var stranger in strangers)
        {
            var known = _streams.GetValueOrDefault(stranger.Stream);
            var next = stranger.NextSeq;
            if (known is EndedExecution)
            {
                ends.Add(() => _inputs.TrySendAsync(stranger.Stream, new ExecutionInput { Ack = next - 1 }));
                continue;
            }

            var dropped = known as DroppedStream;
            var kill = known is null;
            if (dropped is null && !kill)
            {
                throw new ProtocolException($"A hello that lists an execution on stream {stranger.Stream}, which is none.");
            }

            if (kill)
            {
                Log.Orphan(_logger, Name, stranger.Stream);
            }

            dropped ??= Drop(stranger.Stream);
            ends.Add(() => dropped.EndAsync(next, kill));
        }

        return ends;
    }

    private async Task AskInTurnAsync(GuestLink link, Task taking, TaskCompletionSource answer, CancellationToken cancellationToken)
    {
        await taking.ConfigureAwait(false);
        var nonce = BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(sizeof(ulong)));
        lock (_gate)
        {
            // Its turn came too late, or it leaves pings unanswered: then there is no use in one more.
            if (cancellationToken.IsCancellationRequested || _pings.Count >= GuestLimits.MaxPings)
            {
                return;
            }

            _pings.Add(nonce, answer);
        }

        await link.SendInTurnAsync(new Frame { Ping = new Ping { Nonce = nonce } }).ConfigureAwait(false);
    }
}
