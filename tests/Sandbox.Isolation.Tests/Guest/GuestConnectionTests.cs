using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Xunit;

namespace Sandbox.Isolation.Tests.Guest;

public sealed class GuestConnectionTests
{
    private static readonly CancellationToken None = CancellationToken.None;

    [Fact]
    public async Task A_request_gets_its_answer_in_any_order()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using var both = host;
        var first = host.RequestAsync(new Request { Stat = new StatPath { Path = "/a" } }, None);
        var firstFrame = await guest.ReceiveAsync();
        var second = host.RequestAsync(new Request { Sync = new SyncDisks() }, None);
        var secondFrame = await guest.ReceiveAsync();

        await guest.AnswerAsync(secondFrame.Stream, new Response { Empty = new Empty() });
        await guest.AnswerAsync(firstFrame.Stream, new Response { File = new Sandbox.Guest.Protocol.FileInfo { Path = "/a", Type = FileType.Regular } });

        Assert.Equal("/a", (await first.WaitAsync(FakeGuest.Patience)).File.Path);
        Assert.Equal(Response.ResultOneofCase.Empty, (await second.WaitAsync(FakeGuest.Patience)).ResultCase);
        Assert.Equal((1ul, 2ul), (firstFrame.Stream, secondFrame.Stream));
    }

    [Fact]
    public async Task An_error_becomes_an_exception_with_a_message_fit_to_be_shown()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using var both = host;
        var asking = host.RequestAsync(new Request { Stat = new StatPath { Path = "/a" } }, None);
        var frame = await guest.ReceiveAsync();

        await guest.AnswerAsync(frame.Stream, new Response { Error = new Error { Code = ErrorCode.NotFound, Errno = 2, Message = "no\u001b[31m such\u202e file" + new string('x', 9000) } });

        var error = await Assert.ThrowsAsync<GuestException>(() => asking.WaitAsync(FakeGuest.Patience));
        Assert.Equal((ErrorCode.NotFound, 2), (error.Code, error.Errno));
        Assert.StartsWith("no [31m such  file", error.Message, StringComparison.Ordinal);
        Assert.InRange(error.Message.Length, 1, ProtocolLimits.MaxErrorMessageBytes);
    }

    [Fact]
    public async Task An_execution_delivers_its_events_and_ends()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using var both = host;
        var (stream, execution) = await guest.StartAsync(host, FakeGuest.Command());
        await guest.SendAsync(stream, FakeGuest.Out(1, "hello"));
        await guest.SendAsync(stream, FakeGuest.Exit(2, 7));

        var events = await CollectAsync(execution);

        Assert.Equal([1ul, 2ul], events.Select(e => e.Seq));
        Assert.Equal("hello", events[0].Output.Data.ToStringUtf8());
        Assert.Equal(7, events[1].Exited.ExitCode);
        Assert.Equal(1ul, (await guest.ReceiveAsync()).Input.Ack);
        Assert.Equal(2ul, (await guest.ReceiveAsync()).Input.Ack);
    }

    [Fact]
    public async Task A_cut_fails_everything_where_nobody_may_reconnect()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using var both = host;
        var (_, execution) = await guest.StartAsync(host, FakeGuest.Command());
        var asking = host.RequestAsync(new Request { Sync = new SyncDisks() }, None);
        await guest.ReceiveAsync();

        await guest.DisposeAsync();

        await Assert.ThrowsAsync<GuestUnavailableException>(() => asking.WaitAsync(FakeGuest.Patience));
        await Assert.ThrowsAsync<GuestUnavailableException>(() => CollectAsync(execution));
        Assert.NotEmpty(await host.Closed.WaitAsync(FakeGuest.Patience));
        await Assert.ThrowsAsync<GuestUnavailableException>(() => host.RequestAsync(new Request { Sync = new SyncDisks() }, None));
    }

    [Fact]
    public async Task Hello_is_repeated_until_the_guest_has_booted()
    {
        await using var guest = new FakeGuest();
        var options = new GuestConnectionOptions { HelloInterval = TimeSpan.FromMilliseconds(1) };
        var connecting = GuestConnection.ConnectAsync(guest.HostEnd, "vm", options, NullLogger.Instance, None);
        for (var i = 0; i < 6; i++)
        {
            await guest.ReadHelloAsync();
        }

        // Stale bytes first: what the guest said to nobody, an old hello among it, one cut short, and a length that swallows what follows.
        await guest.SendAsync(new Frame { Stream = 9, Event = FakeGuest.Out(1, "old") });
        await guest.SendRawAsync([.. ProtocolLimits.Preamble, .. FakeGuest.Encode(new Frame { Hello = new Hello { Epoch = ByteString.CopyFromUtf8("old") } })]);
        await guest.SendRawAsync([.. ProtocolLimits.Preamble, 0, 0, 4, 0, 1, 2, 3]);
        await guest.SendRawAsync([.. ProtocolLimits.Preamble[..7]]);
        var draining = Task.Run(async () =>
        {
            while (true)
            {
                await guest.ReadHelloAsync();
            }
        });
        await guest.SendHelloAsync();

        await using var host = await connecting.WaitAsync(FakeGuest.Patience);
        Assert.Equal("fake", host.AgentVersion);
        await host.DisposeAsync();
        await draining.ContinueWith(_ => { }, TaskScheduler.Default).WaitAsync(FakeGuest.Patience);
    }

    [Fact]
    public async Task A_guest_that_never_answers_hello_is_given_up_at_the_deadline()
    {
        await using var guest = new FakeGuest(bufferBytes: 64 * 1024);
        var options = new GuestConnectionOptions { HelloDeadline = TimeSpan.FromMilliseconds(200), HelloInterval = TimeSpan.FromMilliseconds(10) };

        var error = await Assert.ThrowsAsync<GuestUnavailableException>(
            () => GuestConnection.ConnectAsync(guest.HostEnd, "vm", options, NullLogger.Instance, None).WaitAsync(FakeGuest.Patience));

        Assert.Contains("hello", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_request_that_is_not_answered_fails_and_its_late_answer_is_dropped()
    {
        var (guest, host) = await FakeGuest.ConnectAsync(new GuestConnectionOptions { RequestTimeout = TimeSpan.FromMilliseconds(300) });
        await using var both = host;
        var asking = host.RequestAsync(new Request { Sync = new SyncDisks() }, None);
        var frame = await guest.ReceiveAsync();
        await Assert.ThrowsAsync<GuestUnavailableException>(() => asking.WaitAsync(FakeGuest.Patience));

        await guest.AnswerAsync(frame.Stream, new Response { Empty = new Empty() });

        var ping = host.PingAsync(None);
        await guest.SendAsync(new Frame { Pong = new Pong { Nonce = (await guest.ReceiveAsync()).Ping.Nonce } });
        await ping.WaitAsync(FakeGuest.Patience);
        Assert.False(host.Closed.IsCompleted);
    }

    [Fact]
    public async Task An_execution_whose_start_was_given_up_is_killed_and_drained()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using var both = host;
        using var cancel = new CancellationTokenSource();
        var starting = host.StartExecutionAsync(FakeGuest.Command(), cancel.Token);
        var frame = await guest.ReceiveAsync();
        await cancel.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => starting);

        await guest.AnswerAsync(frame.Stream, new Response { Started = new ExecutionStarted { Pid = 5 } });
        await guest.SendAsync(frame.Stream, FakeGuest.Exit(1));

        Assert.Equal(9, (await guest.ReceiveAsync()).Input.Signal.Number);
        Assert.Equal(1ul, (await guest.ReceiveAsync()).Input.Ack);
    }

    [Fact]
    public async Task Stdin_waits_for_credit()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using var both = host;
        var (stream, execution) = await guest.StartAsync(host, FakeGuest.Command(stdin: true));
        var data = new byte[ProtocolLimits.MaxStdinUnderWay + 10];
        Random.Shared.NextBytes(data);

        var writing = execution.WriteStdinAsync(data, true, None).AsTask();
        var got = new List<byte>();
        while (got.Count < ProtocolLimits.MaxStdinUnderWay)
        {
            var piece = (await guest.ReceiveAsync()).Input.Stdin;
            Assert.Equal((ulong)got.Count, piece.Offset);
            Assert.False(piece.Eof);
            got.AddRange(piece.Data);
        }

        Assert.False(writing.IsCompleted);
        await guest.SendAsync(new Frame { Stream = stream, StdinCredit = new StdinCredit { Offset = 100 } });
        var last = (await guest.ReceiveAsync()).Input.Stdin;
        got.AddRange(last.Data);

        Assert.True(last.Eof);
        Assert.Equal(data, got);
        await writing.WaitAsync(FakeGuest.Patience);
        var closed = await Assert.ThrowsAsync<GuestException>(() => execution.WriteStdinAsync(data, false, None).AsTask());
        Assert.Equal(ErrorCode.Conflict, closed.Code);
    }

    [Fact]
    public async Task A_watch_delivers_changes_and_is_ended_by_disposing()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using var both = host;
        var watching = host.WatchAsync(new Watch { Path = "/w" }, None);
        var frame = await guest.ReceiveAsync();
        await guest.AnswerAsync(frame.Stream, new Response { Empty = new Empty() });
        var watch = await watching.WaitAsync(FakeGuest.Patience);
        await guest.SendAsync(Change(frame.Stream, 1));

        await foreach (var change in watch.Events)
        {
            Assert.Equal("/w/1", change.Path);
            break;
        }

        var ending = watch.DisposeAsync().AsTask();
        var unwatch = await guest.ReceiveAsync();
        await guest.SendAsync(Change(frame.Stream, 2));
        await guest.AnswerAsync(unwatch.Stream, new Response { Empty = new Empty() });
        await ending.WaitAsync(FakeGuest.Patience);
        Assert.Equal(frame.Stream, unwatch.Request.Unwatch.WatchStream);
        Assert.False(host.Closed.IsCompleted);
    }

    internal static Frame Change(ulong stream, ulong seq) => new()
    {
        Stream = stream,
        WatchEvent = new WatchEvent { Seq = seq, Kind = WatchEvent.Types.Kind.Created, Path = $"/w/{seq}" },
    };

    internal static async Task<List<ExecutionEvent>> CollectAsync(IGuestExecution execution)
    {
        using var patience = new CancellationTokenSource(FakeGuest.Patience);
        List<ExecutionEvent> events = [];
        await foreach (var executionEvent in execution.Events.WithCancellation(patience.Token))
        {
            events.Add(executionEvent);
            await execution.AcknowledgeAsync(executionEvent.Seq, patience.Token);
        }

        return events;
    }
}
