using CsCheck;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Xunit;

namespace Sandbox.Isolation.Tests.Guest;

public sealed class ReconnectTests
{
    private static readonly GuestConnectionOptions Rejoinable = new() { ReconnectWindow = TimeSpan.FromMinutes(5) };

    [Fact]
    public async Task Output_and_stdin_are_delivered_exactly_once_whatever_is_cut()
    {
        // For each byte stream: how many events are said on it before it is cut.
        var streams = Gen.Int[0, 40].Array[1, 6];
        await Gen.Select(streams, Gen.Byte.Array[0, 600_000]).SampleAsync(RunAsync, iter: 40, threads: 2);
    }

    [Fact]
    public async Task Requests_under_way_fail_and_a_lost_execution_says_so()
    {
        var (guest, host) = await FakeGuest.ConnectAsync(Rejoinable);
        await using var both = host;
        var (_, execution) = await guest.StartAsync(host, FakeGuest.Command());
        var asking = host.RequestAsync(new Request { Sync = new SyncDisks() }, CancellationToken.None);
        await guest.ReceiveAsync();
        await guest.DisposeAsync();
        await Assert.ThrowsAsync<GuestUnavailableException>(() => asking.WaitAsync(FakeGuest.Patience));
        Assert.False(host.Closed.IsCompleted);

        await using var next = new FakeGuest();
        await next.RejoinAsync(host);

        var lost = await Assert.ThrowsAsync<GuestUnavailableException>(() => GuestConnectionTests.CollectAsync(execution));
        Assert.Contains("no longer knows", lost.Message, StringComparison.Ordinal);
        var again = host.RequestAsync(new Request { Sync = new SyncDisks() }, CancellationToken.None);
        await next.AnswerAsync((await next.ReceiveAsync()).Stream, new Response { Empty = new Empty() });
        await again.WaitAsync(FakeGuest.Patience);
    }

    [Fact]
    public async Task An_execution_whose_start_was_lost_in_the_cut_is_killed()
    {
        var (guest, host) = await FakeGuest.ConnectAsync(Rejoinable);
        await using var both = host;
        var starting = host.StartExecutionAsync(FakeGuest.Command(), CancellationToken.None);
        var stream = (await guest.ReceiveAsync()).Stream;
        await guest.DisposeAsync();
        await Assert.ThrowsAsync<GuestUnavailableException>(() => starting.WaitAsync(FakeGuest.Patience));

        await using var next = new FakeGuest();
        await next.RejoinAsync(host, new RunningExecution { Stream = stream, ExecutionId = "x1", FirstRetainedSeq = 1, NextSeq = 3 });
        var kinds = new HashSet<ExecutionInput.InputOneofCase> { (await next.ReceiveAsync()).Input.InputCase, (await next.ReceiveAsync()).Input.InputCase };

        Assert.Equal([ExecutionInput.InputOneofCase.Signal, ExecutionInput.InputOneofCase.Replay], kinds.Order());
    }

    [Fact]
    public async Task A_machine_that_has_booted_anew_is_another_guest()
    {
        var (guest, host) = await FakeGuest.ConnectAsync(Rejoinable);
        await using var both = host;
        await guest.DisposeAsync();
        await using var next = new FakeGuest { BootId = "another" };
        var joining = host.ReconnectAsync(next.HostEnd, CancellationToken.None);
        await next.AnswerHelloAsync();

        await Assert.ThrowsAsync<GuestUnavailableException>(() => joining.WaitAsync(FakeGuest.Patience));
        Assert.Contains("booted anew", await host.Closed.WaitAsync(FakeGuest.Patience), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_guest_that_forgot_unacknowledged_events_breaks_the_protocol()
    {
        var (guest, host) = await FakeGuest.ConnectAsync(Rejoinable);
        await using var both = host;
        var (stream, _) = await guest.StartAsync(host, FakeGuest.Command());
        await guest.DisposeAsync();
        await using var next = new FakeGuest();
        var joining = host.ReconnectAsync(next.HostEnd, CancellationToken.None);
        await next.AnswerHelloAsync(new RunningExecution { Stream = stream, ExecutionId = "x1", FirstRetainedSeq = 5, NextSeq = 9 });

        await Assert.ThrowsAsync<GuestUnavailableException>(() => joining.WaitAsync(FakeGuest.Patience));
    }

    [Fact]
    public async Task A_cut_that_nobody_mends_in_time_is_the_end()
    {
        var (guest, host) = await FakeGuest.ConnectAsync(new GuestConnectionOptions { ReconnectWindow = TimeSpan.FromMilliseconds(50) });
        await using var both = host;
        var (_, execution) = await guest.StartAsync(host, FakeGuest.Command());

        await guest.DisposeAsync();

        Assert.Contains("not joined again", await host.Closed.WaitAsync(FakeGuest.Patience), StringComparison.Ordinal);
        await Assert.ThrowsAsync<GuestUnavailableException>(() => GuestConnectionTests.CollectAsync(execution));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(50)]
    public async Task A_failed_reconnection_leaves_nobody_waiting_for_ever(int windowMilliseconds)
    {
        var options = new GuestConnectionOptions { ReconnectWindow = TimeSpan.FromMilliseconds(windowMilliseconds) };
        var (guest, host) = await FakeGuest.ConnectAsync(options);
        await using var both = host;
        var (_, execution) = await guest.StartAsync(host, FakeGuest.Command());
        var next = new FakeGuest();
        await next.DisposeAsync();

        // The first stream is whole, and is given up for one that is not.
        await Assert.ThrowsAsync<GuestUnavailableException>(() => host.ReconnectAsync(next.HostEnd, CancellationToken.None).WaitAsync(FakeGuest.Patience));

        Assert.NotEmpty(await host.Closed.WaitAsync(FakeGuest.Patience));
        await Assert.ThrowsAsync<GuestUnavailableException>(() => GuestConnectionTests.CollectAsync(execution));
        await guest.DisposeAsync();
    }

    private static async Task RunAsync(int[] saidPerStream, byte[] input)
    {
        var (guest, host) = await FakeGuest.ConnectAsync(Rejoinable);
        await using var both = host;
        var (stream, execution) = await guest.StartAsync(host, FakeGuest.Command(stdin: true));
        var agent = new ReplayingAgent(stream);
        var collecting = GuestConnectionTests.CollectAsync(execution);
        var writing = Task.Run(() => execution.WriteStdinAsync(input, true, CancellationToken.None).AsTask());
        var serving = agent.ServeAsync(guest, first: true);
        var said = 0;
        foreach (var count in saidPerStream)
        {
            for (var i = 0; i < count; i++)
            {
                await agent.SayAsync(FakeGuest.Out(0, $"{++said}"));
            }

            await guest.DisposeAsync();
            await serving.WaitAsync(FakeGuest.Patience);
            guest = new FakeGuest();
            await guest.RejoinAsync(host, agent.Listed);
            serving = agent.ServeAsync(guest, first: false);
        }

        await writing.WaitAsync(FakeGuest.Patience);
        await agent.EndOfInput.Task.WaitAsync(FakeGuest.Patience);
        await agent.SayAsync(FakeGuest.Exit(0));
        var events = await collecting.WaitAsync(FakeGuest.Patience);
        await guest.DisposeAsync();
        await serving.WaitAsync(FakeGuest.Patience);

        Assert.Equal(Enumerable.Range(1, said).Select(i => $"{i}"), events.SkipLast(1).Select(e => e.Output.Data.ToStringUtf8()));
        Assert.Equal(input, agent.Stdin);
    }
}
