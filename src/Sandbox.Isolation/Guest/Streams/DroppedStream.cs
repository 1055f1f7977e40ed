using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Streams;

/// <summary>
/// A stream of a guest's past that nobody here has to do with any more. What comes on it is dropped, and its events are acknowledged, so that the guest forgets it; at most one acknowledgement is under
/// way, however much the guest says.
/// </summary>
internal sealed class DroppedStream(IExecutionChannel channel) : GuestStream
{
    private readonly Lock _lock = new();
    private ulong _last;
    private bool _sending;

    /// <inheritdoc/>
    public override void Receive(Frame frame)
    {
        if (frame.BodyCase != Frame.BodyOneofCase.Event)
        {
            return;
        }

        lock (_lock)
        {
            _last = Math.Max(_last, frame.Event.Seq);
            if (_sending)
            {
                return;
            }

            _sending = true;
        }

        _ = Task.Run(AcknowledgeAsync);
    }

    /// <inheritdoc/>
    public override void Fail(Exception reason)
    {
    }

    /// <summary>Lets the guest forget all it has kept of it; kills what may still run.</summary>
    public async Task EndAsync(ulong nextSeq, bool kill)
    {
        await channel.TrySendAsync(Id, new ExecutionInput { Ack = nextSeq - 1 }).ConfigureAwait(false);
        if (kill)
        {
            await channel.TrySendAsync(Id, new ExecutionInput { Signal = new Signal { Number = 9 } }).ConfigureAwait(false);
            await channel.TrySendAsync(Id, new ExecutionInput { Replay = new Replay { AfterSeq = nextSeq - 1 } }).ConfigureAwait(false);
        }
    }

    private async Task AcknowledgeAsync()
    {
        for (var sent = 0UL; ;)
        {
            ulong last;
            lock (_lock)
            {
                last = _last;
                if (last == sent)
                {
                    _sending = false;
                    return;
                }
            }

            await channel.TrySendAsync(Id, new ExecutionInput { Ack = last }).ConfigureAwait(false);
            sent = last;
        }
    }
}
