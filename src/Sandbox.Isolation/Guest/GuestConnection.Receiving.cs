using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Streams;
using Sandbox.Isolation.Guest.Validation;
using Sandbox.Isolation.Guest.Wire;

namespace Sandbox.Isolation.Guest;

// Frames coming in, frames going out, and how it ends.
public sealed partial class GuestConnection
{
    private async Task ReceiveAsync(GuestLink link)
    {
        var end = await link.RunAsync(frame => Dispatch(link, frame)).ConfigureAwait(false);
        switch (end.Kind)
        {
            case LinkEndKind.Violation when !ReferenceEquals(link, CurrentLink):
                // It met a stream that the host had ended a moment before.
                break;
            case LinkEndKind.Violation:
                CloseForGood("the guest broke the protocol: " + end.Reason, logAsViolation: true);
                break;
            case LinkEndKind.HostFault:
                Log.HostFault(_logger, Name, end.Fault!);
                CloseForGood(end.Reason, logAsViolation: false);
                break;
            default:
                Cut(link, end.Reason, mayClose: true);
                break;
        }

        await link.DisposeAsync().ConfigureAwait(false);
    }

    private void Dispatch(GuestLink link, Frame frame)
    {
        if (!ReferenceEquals(link, CurrentLink))
        {
            // Given up by the host: what still comes from it belongs to nothing.
            throw new EndOfStreamException("the host has left it");
        }

        if (frame.Stream == 0)
        {
            if (frame.BodyCase != Frame.BodyOneofCase.Pong)
            {
                throw new ProtocolException($"A {frame.BodyCase} on the channel's own stream.");
            }

            Ponged(frame.Pong.Nonce);
            return;
        }

        GuestStream? stream;
        lock (_gate)
        {
            _streams.TryGetValue(frame.Stream, out stream);
        }

        if (stream is null)
        {
            throw new ProtocolException($"A {frame.BodyCase} on stream {frame.Stream}, which the host did not open or which has ended.");
        }

        stream.Receive(frame);
    }

    private GuestLink RequireLink()
    {
        lock (_gate)
        {
            return _link ?? throw Unavailable();
        }
    }

    private GuestUnavailableException Unavailable() => _closed.Task.IsCompletedSuccessfully
        ? new GuestUnavailableException($"The channel to guest {Name} is closed: {_closed.Task.Result}.")
        : new GuestUnavailableException($"The channel to guest {Name} is cut and not joined again yet: {_cutReason}.");

    private async Task SendOnAsync(GuestLink link, Func<Frame> make, CancellationToken cancellationToken)
    {
        try
        {
            await link.SendAsync(make, cancellationToken).ConfigureAwait(false);
        }
        catch (IOException e) when (e is not GuestUnavailableException)
        {
            // The receiving side may not notice for long that only this direction is gone.
            Cut(link, "writing failed: " + e.Message, mayClose: true);
            await link.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>The byte stream is gone. What cannot go on over another one fails; executions wait.</summary>
    private void Cut(GuestLink link, string reason, bool mayClose)
    {
        List<GuestStream> failed = [];
        lock (_gate)
        {
            if (!ReferenceEquals(link, _link))
            {
                return;
            }

            _link = null;
            _cutReason = reason;
            _abandoned = 0;
            foreach (var execution in _executions.Values)
            {
                execution.Stdin.Suspend();
            }

            foreach (var (id, stream) in _streams)
            {
                switch (stream)
                {
                    case PendingRequest pending:
                        failed.Add(pending);
                        _streams.Remove(id);
                        if (pending.Request.OpCase == Request.OpOneofCase.Start)
                        {
                            _lostStarts[id] = pending.Request.Start;
                        }
                        else if (pending.Request.OpCase == Request.OpOneofCase.Watch)
                        {
                            _streams[id] = new ClosedWatch { Id = id };
                        }

                        break;
                    case GuestWatch:
                        failed.Add(stream);
                        _streams[id] = new ClosedWatch { Id = id };
                        break;
                    case GuestPort:
                        // Nothing more can come on it: the agent ends it before it answers the next hello.
                        failed.Add(stream);
                        _streams.Remove(id);
                        _openPorts--;
                        break;
                }
            }

            if (mayClose && _options.ReconnectWindow > TimeSpan.Zero)
            {
                _reconnectTimer = _time.CreateTimer(_ => WindowPassed(), null, _options.ReconnectWindow, Timeout.InfiniteTimeSpan);
            }

            Log.Cut(_logger, Name, reason, failed.Count, _executions.Count);
        }

        FailPings();
        var exception = new GuestUnavailableException($"The channel to guest {Name} was cut: {reason}.");
        foreach (var stream in failed)
        {
            stream.Fail(exception);
        }

        if (!mayClose)
        {
            _ = link.DisposeAsync().AsTask();
        }
        else if (_options.ReconnectWindow <= TimeSpan.Zero)
        {
            CloseForGood(reason, logAsViolation: false);
        }
    }

    /// <summary>Joining failed: the time in which another try may be made begins anew, or it was the last.</summary>
    private void AwaitAnotherJoin()
    {
        lock (_gate)
        {
            if (_link is not null || _closed.Task.IsCompleted)
            {
                return;
            }

            _reconnectTimer?.Dispose();
            if (_options.ReconnectWindow > TimeSpan.Zero)
            {
                _reconnectTimer = _time.CreateTimer(_ => WindowPassed(), null, _options.ReconnectWindow, Timeout.InfiniteTimeSpan);
                return;
            }
        }

        CloseForGood($"the channel could not be joined{(_cutReason.Length > 0 ? " again after it was cut: " + _cutReason : "")}", logAsViolation: false);
    }

    private void WindowPassed()
    {
        // Not while somebody is joining it again: that has a deadline of its own, and may succeed.
        if (!IsConnected && _connecting.Wait(0))
        {
            try
            {
                if (!IsConnected)
                {
                    CloseForGood($"{_cutReason}, and it was not joined again within {_options.ReconnectWindow.TotalSeconds:0.#} s", logAsViolation: false);
                }
            }
            finally
            {
                _connecting.Release();
            }
        }
    }

    private void CloseForGood(string reason, bool logAsViolation)
    {
        List<GuestStream> failed;
        GuestLink? link;
        lock (_gate)
        {
            if (!_closed.TrySetResult(reason))
            {
                return;
            }

            link = _link;
            _link = null;
            _reconnectTimer?.Dispose();
            failed = [.. _streams.Values];
            _streams.Clear();
            _executions.Clear();
            _lostStarts.Clear();
        }

        if (logAsViolation)
        {
            Log.Violation(_logger, Name, reason);
        }
        else
        {
            Log.Closed(_logger, Name, reason);
        }

        FailPings();
        var exception = Unavailable();
        foreach (var stream in failed)
        {
            stream.Fail(exception);
        }

        if (link is not null)
        {
            _ = link.DisposeAsync().AsTask();
        }
    }

    /// <summary>What executions need of their connection.</summary>
    private sealed class ExecutionChannel(GuestConnection connection) : IExecutionChannel
    {
        public async Task SendAsync(ulong stream, ExecutionInput input, CancellationToken cancellationToken)
        {
            var link = connection.RequireLink();
            try
            {
                await connection.SendOnAsync(link, () => new Frame { Stream = stream, Input = input }, cancellationToken).ConfigureAwait(false);
            }
            catch (IOException e) when (e is not GuestUnavailableException)
            {
                throw new GuestUnavailableException($"The channel to guest {connection.Name} was cut.", e);
            }
        }

        public async Task TrySendAsync(ulong stream, ExecutionInput input)
        {
            try
            {
                await SendAsync(stream, input, CancellationToken.None).ConfigureAwait(false);
            }
            catch (GuestUnavailableException)
            {
                // Repeated when the channel is joined again; of no use when it is closed.
            }
        }

        public void Exited(GuestExecution execution)
        {
            lock (connection._gate)
            {
                if (!connection._streams.ContainsKey(execution.Id))
                {
                    return;
                }

                connection._streams[execution.Id] = new EndedExecution(execution.Stdin) { Id = execution.Id };
                connection._ended.Enqueue(execution.Id);
                if (connection._ended.Count > GuestLimits.MaxEndedRemembered)
                {
                    connection._streams.Remove(connection._ended.Dequeue());
                }
            }
        }

        public void Finished(GuestExecution execution)
        {
            lock (connection._gate)
            {
                connection._executions.Remove(execution.Id);
            }
        }
    }
}
