using CsCheck;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Xunit;

namespace Sandbox.Isolation.Tests.Guest;

/// <summary>Hostile frames against the host's side: nothing hangs, nothing but the documented exceptions comes out, no gap is ever delivered.</summary>
public sealed class FuzzTests
{
    [Fact]
    public async Task Whatever_a_guest_sends_the_host_ends_cleanly() =>
        await Gen.Select(HostileGen.Moves, Gen.Int[0, 3]).SampleAsync(PlayAsync, iter: 4000, threads: 2);

    [Fact]
    public async Task Whatever_answers_a_hello_the_host_connects_or_says_why_not()
    {
        // Noise, preambles, old hellos and the right one, whole or hurt, in any order.
        var pieces = Gen.OneOf(
            Gen.Byte.Array[0, 300].Select(b => (Func<ByteString, byte[]>)(_ => b)),
            Gen.Int[0, 16].Select(n => (Func<ByteString, byte[]>)(_ => ProtocolLimits.Preamble[..n].ToArray())),
            Gen.UInt.Select(n => (Func<ByteString, byte[]>)(_ => [.. ProtocolLimits.Preamble, .. BitConverter.GetBytes(n)])),
            Gen.Int[0, 3].Select(n => (Func<ByteString, byte[]>)(epoch => [.. ProtocolLimits.Preamble, .. Hello(n == 0 ? epoch : ByteString.CopyFrom((byte)n))])),
            HostileGen.AnyFrame.Select(f => (Func<ByteString, byte[]>)(_ => FakeGuest.Encode(f))),
            HostileGen.Broken.Select(b => (Func<ByteString, byte[]>)(_ => [.. ProtocolLimits.Preamble, .. b])),
            Gen.Select(Gen.Int, Gen.Byte).Select((at, with) => (Func<ByteString, byte[]>)(epoch => Hurt([.. ProtocolLimits.Preamble, .. Hello(epoch)], at, with))));
        await Gen.Select(pieces.Array[0, 10], Gen.Int[1, 2000]).SampleAsync(AnswerAsync, iter: 3000, threads: 2, print: _ => "pieces");
    }

    [Fact]
    public void Whatever_bytes_a_frame_reader_gets_it_returns_frames_or_throws_a_protocol_exception()
    {
        Gen.OneOf(Gen.Byte.Array[0, 2000], HostileGen.Broken, HostileGen.AnyFrame.Select(FakeGuest.Encode)).Array[0, 5].Sample(
            parts =>
            {
                byte[] bytes = [.. parts.SelectMany(p => p)];
                using var stream = new MemoryStream(bytes);
                var before = GC.GetAllocatedBytesForCurrentThread();
                var reader = new FrameReader(stream);
                try
                {
                    // A memory stream completes at once: this is one thread's work and its allocations are this thread's.
                    while (reader.ReadAsync(CancellationToken.None).AsTask() is { IsCompleted: true } reading && reading.GetAwaiter().GetResult() is not null)
                    {
                    }
                }
                catch (ProtocolException)
                {
                    // Documented.
                }

                // A frame's buffer is at most 512 KiB and pooled; objects are a small multiple of the bytes they came from.
                Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, (2 * 1024 * 1024) + (bytes.Length * 64L));
            },
            iter: 20_000,
            threads: 1);
    }

    private static async Task PlayAsync(Move[] moves, int ending)
    {
        await using var scene = await Scene.BeginAsync();
        var reading = Task.Run(() => SwallowAsync(scene.Guest));
        var command = CollectAsync(scene.CommandExecution);
        var code = CollectAsync(scene.CodeExecution);
        var changes = Task.Run(async () =>
        {
            ulong last = 0;
            await foreach (var change in scene.WatchStream.Events)
            {
                Assert.True(change.Seq > last);
                last = change.Seq;
            }
        });
        Dictionary<ulong, ulong> next = [];
        try
        {
            foreach (var move in moves)
            {
                await (move switch
                {
                    Move.NextEvent e => scene.Guest.SendAsync(e.Stream, FakeGuest.Out(next[e.Stream] = next.GetValueOrDefault(e.Stream) + 1, "x")),
                    Move.NextChange => scene.Guest.SendAsync(GuestConnectionTests.Change(Scene.Watch, next[Scene.Watch] = next.GetValueOrDefault(Scene.Watch) + 1)),
                    Move.Raw raw => scene.Guest.SendRawAsync(raw.Bytes),
                    _ => Task.CompletedTask,
                });
            }

            if (ending == 0)
            {
                await scene.Host.WriteSomethingAsync(scene.CommandExecution);
            }
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // The host has closed already.
        }

        await scene.Guest.DisposeAsync();
        Assert.NotEmpty(await scene.Host.Closed.WaitAsync(FakeGuest.Patience));
        await command.WaitAsync(FakeGuest.Patience);
        await code.WaitAsync(FakeGuest.Patience);
        await LegalEndAsync(changes);
        await LegalEndAsync(scene.Listing);
        await reading.WaitAsync(FakeGuest.Patience);
        Assert.False(scene.Host.IsConnected);
    }

    private static async Task AnswerAsync(Func<ByteString, byte[]>[] pieces, int blockSize)
    {
        await using var guest = new FakeGuest();
        var options = new GuestConnectionOptions { HelloDeadline = FakeGuest.Patience };
        var connecting = GuestConnection.ConnectAsync(guest.HostEnd, "vm", options, NullLogger.Instance, CancellationToken.None);
        await guest.ReadHelloAsync();
        try
        {
            foreach (var block in pieces.SelectMany(p => p(guest.Epoch)).Chunk(blockSize))
            {
                await guest.SendRawAsync(block);
            }
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // The host has given up.
        }

        await guest.DisposeAsync();
        try
        {
            await using var host = await connecting.WaitAsync(FakeGuest.Patience);
            Assert.NotEmpty(await host.Closed.WaitAsync(FakeGuest.Patience));
        }
        catch (GuestUnavailableException)
        {
            // Documented.
        }
    }

    private static byte[] Hello(ByteString epoch) =>
        FakeGuest.Encode(new Frame { Hello = new Hello { Version = ProtocolLimits.Version, Epoch = epoch, BootId = "b" } });

    private static byte[] Hurt(byte[] bytes, int at, byte with)
    {
        bytes[(uint)at % (uint)bytes.Length] ^= with;
        return bytes;
    }

    private static Task CollectAsync(IGuestExecution execution) => Task.Run(async () =>
    {
        ulong last = 0;
        try
        {
            await foreach (var executionEvent in execution.Events)
            {
                Assert.Equal(++last, executionEvent.Seq);
                await execution.AcknowledgeAsync(executionEvent.Seq, CancellationToken.None);
            }
        }
        catch (GuestUnavailableException)
        {
            // Documented.
        }
    });

    private static async Task LegalEndAsync(Task task)
    {
        try
        {
            await task.WaitAsync(FakeGuest.Patience);
        }
        catch (Exception e) when (e is GuestUnavailableException or GuestException)
        {
            // Documented.
        }
    }

    private static async Task SwallowAsync(FakeGuest guest)
    {
        try
        {
            while (true)
            {
                await guest.ReceiveAsync();
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or InvalidOperationException)
        {
            // Closed.
        }
    }
}

file static class HostExtensions
{
    public static async Task WriteSomethingAsync(this GuestConnection host, IGuestExecution execution)
    {
        try
        {
            await execution.WriteStdinAsync(new byte[100], false, CancellationToken.None);
            Assert.True(host.IsConnected || host.Closed.IsCompleted);
        }
        catch (Exception e) when (e is GuestException or GuestUnavailableException)
        {
            // Documented.
        }
    }
}
