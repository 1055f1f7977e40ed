using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Tests.Guest;

/// <summary>The part of an agent that survives a cut: one execution's kept events, and how much of its stdin it has taken.</summary>
public sealed class ReplayingAgent(ulong stream)
{
    private readonly Lock _lock = new();
    private readonly List<ExecutionEvent> _kept = [];
    private readonly List<byte> _stdin = [];
    private TaskCompletionSource _replayed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private FakeGuest? _link;

    public ulong NextSeq { get; private set; } = 1;

    public TaskCompletionSource EndOfInput { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public byte[] Stdin
    {
        get
        {
            lock (_lock)
            {
                return [.. _stdin];
            }
        }
    }

    public RunningExecution Listed
    {
        get
        {
            lock (_lock)
            {
                return new RunningExecution { Stream = stream, ExecutionId = "x1", FirstRetainedSeq = _kept.Count > 0 ? _kept[0].Seq : NextSeq, NextSeq = NextSeq };
            }
        }
    }

    /// <summary>Serves one byte stream until it is cut. The first needs no replay.</summary>
    public Task ServeAsync(FakeGuest link, bool first)
    {
        lock (_lock)
        {
            _link = link;
            _replayed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            if (first)
            {
                _replayed.SetResult();
            }
        }

        return Task.Run(async () =>
        {
            try
            {
                while (true)
                {
                    await TakeAsync(link, (await link.ReceiveAsync()).Input);
                }
            }
            catch (Exception e) when (e is IOException or ObjectDisposedException or InvalidOperationException)
            {
                // Cut.
            }
        });
    }

    /// <summary>Says something, once the host has asked for what it missed.</summary>
    public async Task SayAsync(ExecutionEvent executionEvent)
    {
        await _replayed.Task.WaitAsync(FakeGuest.Patience);
        FakeGuest link;
        lock (_lock)
        {
            executionEvent.Seq = NextSeq++;
            _kept.Add(executionEvent);
            link = _link!;
        }

        await TryAsync(() => link.SendAsync(stream, executionEvent));
    }

    private static async Task TryAsync(Func<Task> send)
    {
        try
        {
            await send();
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or InvalidOperationException)
        {
            // Lost in the cut; kept all the same.
        }
    }

    private async Task TakeAsync(FakeGuest link, ExecutionInput input)
    {
        switch (input.InputCase)
        {
            case ExecutionInput.InputOneofCase.Ack:
                lock (_lock)
                {
                    _kept.RemoveAll(e => e.Seq <= input.Ack);
                }

                break;
            case ExecutionInput.InputOneofCase.Replay:
                ExecutionEvent[] again;
                ulong credit;
                lock (_lock)
                {
                    again = [.. _kept.Where(e => e.Seq > input.Replay.AfterSeq)];
                    credit = (ulong)_stdin.Count;
                }

                foreach (var executionEvent in again)
                {
                    await TryAsync(() => link.SendAsync(stream, executionEvent));
                }

                if (credit > 0)
                {
                    await TryAsync(() => link.SendAsync(new Frame { Stream = stream, StdinCredit = new StdinCredit { Offset = credit } }));
                }

                _replayed.TrySetResult();
                break;
            case ExecutionInput.InputOneofCase.Stdin:
                await TakeStdinAsync(link, input.Stdin);
                break;
        }
    }

    private async Task TakeStdinAsync(FakeGuest link, StdinData data)
    {
        var grown = false;
        lock (_lock)
        {
            if (data.Offset > (ulong)_stdin.Count)
            {
                EndOfInput.TrySetException(new InvalidOperationException($"A gap in stdin: {data.Offset} where {_stdin.Count} is next."));
                return;
            }

            var repeated = (int)Math.Min((ulong)_stdin.Count - data.Offset, (ulong)data.Data.Length);
            grown = data.Data.Length > repeated;
            _stdin.AddRange(data.Data.Skip(repeated));
            if (data.Eof)
            {
                EndOfInput.TrySetResult();
            }
        }

        if (grown)
        {
            await TryAsync(() => link.SendAsync(new Frame { Stream = stream, StdinCredit = new StdinCredit { Offset = data.Offset + (ulong)data.Data.Length } }));
        }
    }
}
