using System.Security.Cryptography;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Validation;
using Sandbox.Isolation.Guest.Wire;

namespace Sandbox.Isolation.Guest;

// Signs of life. A pong must answer a ping, once: anything else is a breach, so a flood of pongs ends with its first.
public sealed partial class GuestConnection
{
    private readonly Dictionary<ulong, TaskCompletionSource> _pings = [];

    /// <summary>Asks the guest for a sign of life and returns how long it took.</summary>
    /// <exception cref="GuestUnavailableException">The channel is cut or closed, too many pings are unanswered, or the guest did not answer within <see cref="GuestConnectionOptions.PingTimeout"/>.</exception>
    public async Task<TimeSpan> PingAsync(CancellationToken cancellationToken)
    {
        var nonce = BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(sizeof(ulong)));
        var answer = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var link = RequireLink();
        lock (_gate)
        {
            // An unanswered ping stays known, so that its late pong is no breach; a guest that answers none is soon asked no more.
            if (_pings.Count >= GuestLimits.MaxPings)
            {
                throw new GuestUnavailableException($"Guest {Name} has left {_pings.Count} pings unanswered.");
            }

            _pings.Add(nonce, answer);
        }

        using var deadline = new CancellationTokenSource(_options.PingTimeout, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, deadline.Token);
        var begin = _time.GetTimestamp();
        try
        {
            await SendOnAsync(link, () => new Frame { Ping = new Ping { Nonce = nonce } }, either.Token).ConfigureAwait(false);
            await answer.Task.WaitAsync(either.Token).ConfigureAwait(false);
            return _time.GetElapsedTime(begin);
        }
        catch (OperationCanceledException) when (either.IsCancellationRequested)
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw new GuestUnavailableException($"Guest {Name} did not answer a ping within {_options.PingTimeout.TotalSeconds:0.#} s.");
        }
        catch (IOException e) when (e is not GuestUnavailableException)
        {
            throw new GuestUnavailableException($"The channel to guest {Name} was cut during a ping.", e);
        }
    }

    private void Ponged(ulong nonce)
    {
        TaskCompletionSource? answer;
        lock (_gate)
        {
            if (!_pings.Remove(nonce, out answer))
            {
                throw new ProtocolException("A pong that answers no ping.");
            }
        }

        answer.TrySetResult();
    }

    private void FailPings()
    {
        List<TaskCompletionSource> waiting;
        lock (_gate)
        {
            waiting = [.. _pings.Values];
            _pings.Clear();
        }

        foreach (var answer in waiting)
        {
            if (answer.TrySetException(new GuestUnavailableException($"The channel to guest {Name} is gone.")))
            {
                _ = answer.Task.Exception;
            }
        }
    }

    private void StartPinging(GuestLink link)
    {
        if (_options.PingInterval is { } interval)
        {
            _ = Task.Run(() => PingForeverAsync(link, interval));
        }
    }

    private async Task PingForeverAsync(GuestLink link, TimeSpan interval)
    {
        try
        {
            while (true)
            {
                await Task.WhenAny(Task.Delay(interval, _time), link.Receiving).ConfigureAwait(false);
                if (!ReferenceEquals(CurrentLink, link))
                {
                    return;
                }

                await PingAsync(CancellationToken.None).ConfigureAwait(false);
            }
        }
        catch (GuestUnavailableException e)
        {
            if (ReferenceEquals(CurrentLink, link))
            {
                CloseForGood("no sign of life: " + e.Message, logAsViolation: false);
            }
        }
    }
}
