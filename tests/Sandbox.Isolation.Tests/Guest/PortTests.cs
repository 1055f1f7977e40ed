using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Xunit;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;

namespace Sandbox.Isolation.Tests.Guest;

/// <summary>A connection to a port over a scripted guest: what is legal on it, and what costs the guest its channel.</summary>
public sealed class PortTests
{
    private static readonly CancellationToken None = CancellationToken.None;

    private static readonly Dictionary<string, Frame[]> Breaches = new()
    {
        ["more than its credit"] = [.. Enumerable.Range(0, 9).Select(_ => Data(ProtocolLimits.MaxPortDataBytes))],
        ["a frame too large"] = [Data(ProtocolLimits.MaxPortDataBytes + 1)],
        ["nothing at all"] = [Data(0)],
        ["bytes after the end"] = [Data(1, end: true), Data(1)],
        ["a second end"] = [Data(1, end: true), Data(0, end: true)],
        ["a reset with bytes"] = [new Frame { Stream = 1, PortData = new PortData { Reset = true, Data = ByteString.CopyFrom(1) } }],
        ["anything after the last word"] = [Last(), Data(1)],
        ["a credit after the last word"] = [Last(), Credit(1)],
        ["a credit for what was not sent"] = [Credit(1)],
        ["a credit beyond all measure"] = [Credit(uint.MaxValue)],
        ["a credit of nothing"] = [Credit(0)],
        ["an event"] = [new Frame { Stream = 1, Event = FakeGuest.Out(1, "a") }],
        ["bytes on a stream that nobody opened"] = [new Frame { Stream = 9, PortData = new PortData { Data = ByteString.CopyFrom(1) } }],
    };

    public static TheoryData<string> Names => [.. Breaches.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task A_breach_closes_the_channel(string breach)
    {
        var (guest, host, port) = await OpenAsync();
        await using (guest)
        await using (host)
        {
            foreach (var frame in Breaches[breach])
            {
                try
                {
                    await guest.SendAsync(frame);
                }
                catch (IOException)
                {
                    // The host may be faster.
                }
            }

            Assert.Contains("broke the protocol", await host.Closed.WaitAsync(FakeGuest.Patience), StringComparison.Ordinal);
            await Assert.ThrowsAnyAsync<IOException>(() => port.WriteAsync(new byte[1], false, None).AsTask());
        }
    }

    [Fact]
    public async Task A_guest_may_send_a_window_and_after_it_what_has_been_read()
    {
        var (guest, host, port) = await OpenAsync();
        await using (guest)
        await using (host)
        {
            for (var i = 0; i < 8; i++)
            {
                await guest.SendAsync(Data(ProtocolLimits.MaxPortDataBytes));
            }

            var buffer = new byte[ProtocolLimits.PortWindow];
            for (var left = ProtocolLimits.PortWindow / 4; left > 0;)
            {
                left -= await port.ReadAsync(buffer.AsMemory(0, left), None).AsTask().WaitAsync(FakeGuest.Patience);
            }

            var credit = await guest.ReceiveAsync();
            Assert.Equal((uint)ProtocolLimits.PortWindow / 4, credit.PortCredit.Bytes);
            await guest.SendAsync(Data(ProtocolLimits.MaxPortDataBytes));
            await guest.SendAsync(Data(ProtocolLimits.MaxPortDataBytes, end: true));
            await guest.SendAsync(Last());
            var rest = 0;
            for (int n; (n = await port.ReadAsync(buffer, None).AsTask().WaitAsync(FakeGuest.Patience)) > 0;)
            {
                rest += n;
            }

            // What was sent before the last word is read all the same.
            Assert.Equal(ProtocolLimits.PortWindow, rest);
            Assert.False(host.Closed.IsCompleted);
        }
    }

    [Fact]
    public async Task The_host_sends_a_window_and_then_waits_for_credit()
    {
        var (guest, host, port) = await OpenAsync();
        await using (guest)
        await using (host)
        {
            var writing = port.WriteAsync(new byte[ProtocolLimits.PortWindow + 5], true, None).AsTask();
            var got = 0;
            while (got < ProtocolLimits.PortWindow)
            {
                var frame = await guest.ReceiveAsync();
                Assert.InRange(frame.PortData.Data.Length, 1, ProtocolLimits.MaxPortDataBytes);
                got += frame.PortData.Data.Length;
            }

            Assert.Equal(ProtocolLimits.PortWindow, got);
            Assert.False(writing.IsCompleted);
            await guest.SendAsync(Credit(5));
            Assert.Equal(5, (await guest.ReceiveAsync()).PortData.Data.Length);
            Assert.True((await guest.ReceiveAsync()).PortData.End);
            await writing.WaitAsync(FakeGuest.Patience);
        }
    }

    [Fact]
    public async Task What_comes_on_a_connection_that_was_given_up_is_dropped_until_the_last_word()
    {
        var (guest, host, port) = await OpenAsync();
        await using (guest)
        await using (host)
        {
            await port.DisposeAsync();
            Assert.True((await guest.ReceiveAsync()).PortData.Reset);
            await guest.SendAsync(Data(100));
            await guest.SendAsync(Last());
            await Assert.ThrowsAsync<GuestPortResetException>(() => port.ReadAsync(new byte[1], None).AsTask());
            Assert.False(host.Closed.IsCompleted);
            await guest.SendAsync(Data(1));
            await host.Closed.WaitAsync(FakeGuest.Patience);
        }
    }

    [Fact]
    public async Task Labels_that_are_unfit_are_dropped_and_the_others_shown()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        await using (guest)
        await using (host)
        {
            var asking = host.RequestAsync(new Request { Stat = new StatPath { Path = "/f" } }, None);
            var file = new FileInfo { Path = "/f", Type = FileType.Regular, Metadata = { ["good"] = "a b", ["bad name"] = "x", ["bad"] = "\u001b[2J", [""] = "x", ["long"] = new string('x', 5000) } };
            await guest.AnswerAsync((await guest.ReceiveAsync()).Stream, new Response { File = file });
            Assert.Equal(new Dictionary<string, string> { ["good"] = "a b" }, new Dictionary<string, string>((await asking.WaitAsync(FakeGuest.Patience)).File.Metadata));
        }
    }

    private static Frame Data(int bytes, bool end = false) => new() { Stream = 1, PortData = new PortData { Data = ByteString.CopyFrom(new byte[bytes]), End = end } };

    private static Frame Last() => new() { Stream = 1, PortData = new PortData { Reset = true } };

    private static Frame Credit(uint bytes) => new() { Stream = 1, PortCredit = new PortCredit { Bytes = bytes } };

    private static async Task<(FakeGuest Guest, GuestConnection Host, IGuestPort Port)> OpenAsync()
    {
        var (guest, host) = await FakeGuest.ConnectAsync();
        var opening = host.OpenPortAsync(80, None);
        var frame = await guest.ReceiveAsync();
        Assert.Equal((1ul, 80u), (frame.Stream, frame.Request.OpenPort.Port));
        await guest.AnswerAsync(1, new Response { Empty = new Empty() });
        return (guest, host, await opening.WaitAsync(FakeGuest.Patience));
    }
}
