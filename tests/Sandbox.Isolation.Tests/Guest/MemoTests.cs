using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Xunit;

namespace Sandbox.Isolation.Tests.Guest;

/// <summary>A guest that is saved with its machine, and the host that goes on with it elsewhere.</summary>
public sealed class MemoTests
{
    [Fact]
    public async Task A_quiet_host_has_heard_the_guest_writes_nothing_and_goes_on_as_if_nothing_had_been()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using var both = host;
        await using var end = guest;
        var (stream, execution) = await guest.StartAsync(host, FakeGuest.Command());
        var quieting = host.QuiesceAsync(CancellationToken.None);
        var ping = (await guest.ReceiveAsync()).Ping;
        Assert.False(quieting.IsCompleted);
        await guest.SendAsync(new Frame { Pong = new Pong { Nonce = ping.Nonce } });
        using var quiet = await quieting.WaitAsync(FakeGuest.Patience);
        Assert.True(quiet.Answered);

        // What comes in is heard; what would go out waits.
        await guest.SendAsync(stream, FakeGuest.Out(1, "late"));
        await using var events = execution.Events.GetAsyncEnumerator();
        Assert.True(await events.MoveNextAsync().AsTask().WaitAsync(FakeGuest.Patience));
        Assert.True(quiet.Received > 0);
        var acknowledging = execution.AcknowledgeAsync(1, CancellationToken.None).AsTask();
        var asking = host.RequestAsync(new Request { Sync = new SyncDisks() }, CancellationToken.None);
        var receiving = guest.ReceiveAsync();
        Assert.Equal(2UL, quiet.Remember().NextStream);
        Assert.False(acknowledging.IsCompleted || asking.IsCompleted || receiving.IsCompleted);

        quiet.Dispose();
        Assert.Equal(1UL, (await receiving).Input.Ack);
        var request = await guest.ReceiveAsync();
        Assert.Equal(2UL, request.Stream);
        await guest.AnswerAsync(request.Stream, new Response { Empty = new Empty() });
        await asking.WaitAsync(FakeGuest.Patience);
    }

    [Fact]
    public async Task A_guest_that_does_not_answer_is_saved_all_the_same()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using var both = host;
        await using var end = guest;
        using (var quiet = await host.QuiesceAsync(CancellationToken.None).WaitAsync(FakeGuest.Patience))
        {
            Assert.False(quiet.Answered);
        }

        // Its pong may still come.
        await guest.SendAsync(new Frame { Pong = new Pong { Nonce = (await guest.ReceiveAsync()).Ping.Nonce } });
        var asking = host.RequestAsync(new Request { Sync = new SyncDisks() }, CancellationToken.None);
        await guest.AnswerAsync((await guest.ReceiveAsync()).Stream, new Response { Empty = new Empty() });
        await asking.WaitAsync(FakeGuest.Patience);

        using var cancel = new CancellationTokenSource();
        var quieting = host.QuiesceAsync(cancel.Token);
        await guest.ReceiveAsync();
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => quieting.WaitAsync(FakeGuest.Patience));
        asking = host.RequestAsync(new Request { Sync = new SyncDisks() }, CancellationToken.None);
        await guest.AnswerAsync((await guest.ReceiveAsync()).Stream, new Response { Empty = new Empty() });
        await asking.WaitAsync(FakeGuest.Patience);
    }

    [Fact]
    public async Task Named_executions_go_on_behind_their_logs_and_their_input_is_sent_from_the_last_credit()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        var (stream, execution) = await guest.StartAsync(host, FakeGuest.Command(stdin: true), pid: 77);
        await execution.WriteStdinAsync("abcdef"u8.ToArray(), true, CancellationToken.None);
        await guest.ReceiveAsync();
        await guest.SendAsync(stream, FakeGuest.Out(1, "one"));
        await guest.SendAsync(new Frame { Stream = stream, StdinCredit = new StdinCredit { Offset = 2 } });
        await guest.SendAsync(stream, FakeGuest.Out(2, "two"));
        var memo = await RememberAsync(guest, host, execution, 2);

        var (next, again, survivors) = await RestoreAsync(memo, [new RestoredExecution("x1", 1)], new RunningExecution { Stream = stream, ExecutionId = "x1", FirstRetainedSeq = 1, NextSeq = 3 });
        await using var both = again;
        await using var end = next;
        Assert.Equal(77u, survivors.Single().Pid);
        Assert.Equal(1UL, (await next.ReceiveAsync()).Input.Ack);
        Assert.Equal(1UL, (await next.ReceiveAsync()).Input.Replay.AfterSeq);
        var repeated = (await next.ReceiveAsync()).Input.Stdin;
        Assert.Equal((2UL, "cdef"), (repeated.Offset, repeated.Data.ToStringUtf8()));
        var eof = (await next.ReceiveAsync()).Input.Stdin;
        Assert.Equal((6UL, true), (eof.Offset, eof.Eof));

        var collecting = GuestConnectionTests.CollectAsync(survivors.Single());
        await next.SendAsync(stream, FakeGuest.Out(2, "two"));
        await next.SendAsync(new Frame { Stream = stream, StdinCredit = new StdinCredit { Offset = 2 } });
        await next.SendAsync(new Frame { Stream = stream, StdinCredit = new StdinCredit { Offset = 6 } });
        await next.SendAsync(stream, FakeGuest.Exit(3));
        Assert.Equal([2UL, 3UL], (await collecting.WaitAsync(FakeGuest.Patience)).Select(e => e.Seq));
        await Assert.ThrowsAsync<GuestException>(() => survivors.Single().WriteStdinAsync("x"u8.ToArray(), false, CancellationToken.None).AsTask());

        // Numbers go on above all that were used.
        var asking = again.RequestAsync(new Request { Sync = new SyncDisks() }, CancellationToken.None);
        var frame = await next.ReceiveButAcksAsync();
        Assert.Equal(stream + 1, frame.Stream);
        await next.AnswerAsync(frame.Stream, new Response { Empty = new Empty() });
        await asking.WaitAsync(FakeGuest.Patience);
    }

    [Fact]
    public async Task What_is_not_named_is_killed_and_what_is_over_is_forgotten_and_neither_is_a_breach()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        var (running, _) = await guest.StartAsync(host, FakeGuest.Command("running"));
        var (ended, over) = await guest.StartAsync(host, FakeGuest.Command("ended"));
        await guest.SendAsync(ended, FakeGuest.Exit(1));
        var starting = host.StartExecutionAsync(FakeGuest.Command("unanswered"), CancellationToken.None);
        var unanswered = (await guest.ReceiveButAcksAsync()).Stream;
        var memo = await RememberAsync(guest, host, over, 1);
        _ = starting.ContinueWith(t => t.Exception, TaskScheduler.Default);
        Assert.Equal(3, memo.Executions.Count);

        const ulong Unknown = 90;
        var (next, again, survivors) = await RestoreAsync(
            memo,
            [new RestoredExecution("forgotten", 4)],
            new RunningExecution { Stream = running, ExecutionId = "running", FirstRetainedSeq = 5, NextSeq = 9 },
            new RunningExecution { Stream = ended, ExecutionId = "ended", FirstRetainedSeq = 1, NextSeq = 2 },
            new RunningExecution { Stream = unanswered, ExecutionId = "unanswered", FirstRetainedSeq = 1, NextSeq = 1 },
            new RunningExecution { Stream = Unknown, ExecutionId = "unknown", FirstRetainedSeq = 1, NextSeq = 4 });
        await using var both = again;
        await using var end = next;
        await Assert.ThrowsAsync<GuestUnavailableException>(() => GuestConnectionTests.CollectAsync(survivors.Single()));

        HashSet<(ulong, ExecutionInput.InputOneofCase, ulong)> said = [];
        while (said.Count < 9)
        {
            var frame = await next.ReceiveAsync();
            said.Add((frame.Stream, frame.Input.InputCase, frame.Input.InputCase switch
            {
                ExecutionInput.InputOneofCase.Ack => frame.Input.Ack,
                ExecutionInput.InputOneofCase.Replay => frame.Input.Replay.AfterSeq,
                _ => (ulong)frame.Input.Signal.Number,
            }));
        }

        var (ack, replay, signal) = (ExecutionInput.InputOneofCase.Ack, ExecutionInput.InputOneofCase.Replay, ExecutionInput.InputOneofCase.Signal);
        Assert.Equal(
            new HashSet<(ulong, ExecutionInput.InputOneofCase, ulong)>
            {
                (running, ack, 4), (running, replay, 4), (running, signal, 9),
                (unanswered, replay, 0), (unanswered, signal, 9),
                (ended, ack, 1),
                (Unknown, ack, 3), (Unknown, signal, 9), (Unknown, replay, 3),
            },
            said);

        // What they still say is taken and thrown away.
        await next.SendAsync(running, FakeGuest.Exit(5));
        await next.SendAsync(unanswered, FakeGuest.Exit(1));
        await next.SendAsync(ended, FakeGuest.Exit(1));
        await next.SendAsync(Unknown, FakeGuest.Exit(4));
        HashSet<(ulong, ulong)> acknowledged = [];
        while (acknowledged.Count < 4)
        {
            var frame = await next.ReceiveAsync();
            acknowledged.Add((frame.Stream, frame.Input.Ack));
        }

        Assert.Equal(new HashSet<(ulong, ulong)> { (running, 5), (ended, 1), (unanswered, 1), (Unknown, 4) }, acknowledged);
        var asking = again.RequestAsync(new Request { Sync = new SyncDisks() }, CancellationToken.None);
        var request = await next.ReceiveAsync();
        Assert.Equal(Unknown + 1, request.Stream);
        await next.AnswerAsync(request.Stream, new Response { Empty = new Empty() });
        await asking.WaitAsync(FakeGuest.Patience);
        Assert.False(again.Closed.IsCompleted);
    }

    [Fact]
    public async Task The_end_of_an_execution_that_the_log_does_not_have_is_told_again()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        var (stream, execution) = await guest.StartAsync(host, FakeGuest.Command(stdin: true));
        await guest.SendAsync(stream, new ExecutionEvent { Seq = 1, StdinClosed = new StdinClosed() });
        await guest.SendAsync(stream, FakeGuest.Exit(2));
        var memo = await RememberAsync(guest, host, execution, 2);

        foreach (var lastSeq in (ulong[])[0, 1])
        {
            var (next, again, survivors) = await RestoreAsync(memo, [new RestoredExecution("x1", lastSeq)], new RunningExecution { Stream = stream, ExecutionId = "x1", FirstRetainedSeq = 1, NextSeq = 3 });
            await using var both = again;
            await using var end = next;
            if (lastSeq == 0)
            {
                await next.SendAsync(stream, new ExecutionEvent { Seq = 1, StdinClosed = new StdinClosed() });
            }

            await next.SendAsync(stream, FakeGuest.Exit(2));
            Assert.Equal(2UL, (await GuestConnectionTests.CollectAsync(survivors.Single()))[^1].Seq);
            Assert.False(again.Closed.IsCompleted);
        }
    }

    [Fact]
    public async Task Another_guest_and_a_damaged_memo_are_refused()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        var (stream, execution) = await guest.StartAsync(host, FakeGuest.Command());
        await guest.SendAsync(stream, FakeGuest.Out(1, "x"));
        var memo = await RememberAsync(guest, host, execution, 1);
        var bytes = memo.Encode();
        Assert.DoesNotContain("true", System.Text.Encoding.UTF8.GetString(memo.Executions.Single().Start), StringComparison.Ordinal);

        await using var other = new FakeGuest { BootId = "another" };
        var restoring = GuestConnection.RestoreAsync(other.HostEnd, memo, [], "vm", new GuestConnectionOptions(), NullLogger.Instance, CancellationToken.None);
        await other.AnswerHelloAsync();
        await Assert.ThrowsAsync<GuestUnavailableException>(() => restoring.WaitAsync(FakeGuest.Patience));

        Assert.Throws<InvalidDataException>(() => GuestMemo.Decode(bytes.AsSpan(0, bytes.Length / 2)));
        Assert.Throws<InvalidDataException>(() => GuestMemo.Decode("{}"u8));
        Assert.Throws<InvalidDataException>(() => GuestMemo.Decode((memo with { Version = 2 }).Encode()));
        Assert.Throws<InvalidDataException>(() => GuestMemo.Decode((memo with { Executions = [memo.Executions[0] with { Stdin = new StdinMemo(true, 1, 2, false, []) }] }).Encode()));
    }

    /// <summary>Waits until the host has had an event, and takes its memo, through the bytes that are stored. The machine is gone then.</summary>
    private static async Task<GuestMemo> RememberAsync(FakeGuest guest, GuestConnection host, IGuestExecution execution, ulong seq)
    {
        await using (host)
        await using (guest)
        {
            await foreach (var e in execution.Events)
            {
                if (e.Seq == seq)
                {
                    break;
                }
            }

            var quieting = host.QuiesceAsync(CancellationToken.None);
            while (true)
            {
                if ((await guest.ReceiveAsync()) is { BodyCase: Frame.BodyOneofCase.Ping } frame)
                {
                    await guest.SendAsync(new Frame { Pong = new Pong { Nonce = frame.Ping.Nonce } });
                    break;
                }
            }

            using var quiet = await quieting.WaitAsync(FakeGuest.Patience);
            return GuestMemo.Decode(quiet.Remember().Encode());
        }
    }

    private static async Task<(FakeGuest Guest, GuestConnection Host, IReadOnlyList<IGuestExecution> Survivors)> RestoreAsync(
        GuestMemo memo, RestoredExecution[] restored, params RunningExecution[] listed)
    {
        var guest = new FakeGuest();
        var restoring = GuestConnection.RestoreAsync(guest.HostEnd, memo, restored, "vm", new GuestConnectionOptions(), NullLogger.Instance, CancellationToken.None);
        await guest.AnswerHelloAsync(listed);
        var (host, survivors) = await restoring.WaitAsync(FakeGuest.Patience);
        return (guest, host, survivors);
    }
}
