using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Xunit;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;

namespace Sandbox.Isolation.Tests.Guest;

/// <summary>Each rule, broken once: the channel closes and says why, and nobody is left waiting.</summary>
public sealed class ViolationTests
{
    private static readonly Dictionary<string, Frame[]> Breaches = new()
    {
        ["no body"] = [new Frame { Stream = Scene.Command }],
        ["unknown stream"] = [new Frame { Stream = 99, Event = FakeGuest.Out(1, "a") }],
        ["a request from the guest"] = [new Frame { Stream = 77, Request = new Request { Sync = new SyncDisks() } }],
        ["a second hello"] = [new Frame { Hello = new Hello { Version = 1 } }],
        ["a ping from the guest"] = [new Frame { Ping = new Ping { Nonce = 1 } }],
        ["a pong for no ping"] = [new Frame { Pong = new Pong { Nonce = 1 } }],
        ["an event on a request"] = [new Frame { Stream = Scene.Pending, Event = FakeGuest.Out(1, "a") }],
        ["a watch event on an execution"] = [GuestConnectionTests.Change(Scene.Command, 1)],
        ["an event on a watch"] = [new Frame { Stream = Scene.Watch, Event = FakeGuest.Out(1, "a") }],
        ["started twice"] = [Answer(Scene.Command, new Response { Started = new ExecutionStarted { Pid = 1 } })],
        ["answered twice"] = [Answer(Scene.Pending, new Response { Files = new FileList() }), Answer(Scene.Pending, new Response { Files = new FileList() })],
        ["an answer of another kind"] = [Answer(Scene.Pending, new Response { Empty = new Empty() })],
        ["an answer without a result"] = [Answer(Scene.Pending, new Response())],
        ["an unknown error code"] = [Answer(Scene.Pending, new Response { Error = new Error { Code = (ErrorCode)4711 } })],
        ["more entries than asked for"] = [Answer(Scene.Pending, Files(11))],
        ["an empty page that promises more"] = [Answer(Scene.Pending, new Response { Files = new FileList { More = true } })],
        ["a path too long"] = [Answer(Scene.Pending, Files(1, new string('p', 5000)))],
        ["a path with NUL"] = [Answer(Scene.Pending, Files(1, "a\0b"))],
        ["a path of too many bytes"] = [Answer(Scene.Pending, Files(1, new string('ä', 2100)))],
        ["an unknown type of file"] = [Answer(Scene.Pending, new Response { Files = new FileList { Entries = { new FileInfo { Path = "a", Type = (FileType)9 } } } })],
        ["seq 0"] = [Event(FakeGuest.Out(0, "a"))],
        ["seq skipped"] = [Event(FakeGuest.Out(1, "a")), Event(FakeGuest.Out(3, "a"))],
        ["seq repeated"] = [Event(FakeGuest.Out(1, "a")), Event(FakeGuest.Out(1, "a"))],
        ["empty output"] = [Event(FakeGuest.Out(1, ""))],
        ["output too large"] = [Event(FakeGuest.Out(1, new string('x', ProtocolLimits.MaxOutputBytes + 1)))],
        ["output on a terminal there is not"] = [Event(new ExecutionEvent { Seq = 1, Output = new Output { Fd = OutputFd.Pty, Data = ByteString.CopyFromUtf8("a") } })],
        ["output on an unknown descriptor"] = [Event(new ExecutionEvent { Seq = 1, Output = new Output { Fd = (OutputFd)12, Data = ByteString.CopyFromUtf8("a") } })],
        ["over the window in bytes"] = [Event(FakeGuest.Out(1, new string('x', Scene.Window))), Event(FakeGuest.Out(2, "x"))],
        ["over the window in events"] = [.. Enumerable.Range(1, (Scene.Window / 256) + 1).Select(i => Event(FakeGuest.Out((ulong)i, "x")))],
        ["an event without content"] = [Event(new ExecutionEvent { Seq = 1 })],
        ["a result from a command"] = [Event(new ExecutionEvent { Seq = 1, Result = new RichResult() })],
        ["a result with too many types"] = [Frame(Scene.Code, new ExecutionEvent { Seq = 1, Result = Types(65) })],
        ["a result with a type that is none"] = [Frame(Scene.Code, new ExecutionEvent { Seq = 1, Result = new RichResult { Data = { ["text/\nhtml"] = ByteString.Empty } } })],
        ["a result too large"] = [Frame(Scene.Code, new ExecutionEvent { Seq = 1, Result = new RichResult { Data = { ["a/b"] = ByteString.CopyFrom(new byte[ProtocolLimits.MaxResultBytes + 300]) } } })],
        ["changed files that were not asked for"] = [Event(new ExecutionEvent { Seq = 1, ChangedFiles = new ChangedFiles() })],
        ["too many changed files"] = [Frame(Scene.Code, Changed([.. Enumerable.Repeat("/a", ProtocolLimits.MaxChangedFiles + 1)]))],
        ["a changed file without an absolute path"] = [Frame(Scene.Code, Changed("a"))],
        ["a changed file with NUL"] = [Frame(Scene.Code, Changed("/a\0"))],
        ["a changed file with a path too long"] = [Frame(Scene.Code, Changed("/" + new string('p', 5000)))],
        ["an event between the changed files and the exit"] = [Frame(Scene.Code, Changed("/a")), Frame(Scene.Code, FakeGuest.Out(2, "x"))],
        ["stdin closed twice"] = [Event(new ExecutionEvent { Seq = 1, StdinClosed = new StdinClosed() }), Event(new ExecutionEvent { Seq = 2, StdinClosed = new StdinClosed() })],
        ["exit code out of range"] = [Event(FakeGuest.Exit(1, 256))],
        ["signal out of range"] = [Event(new ExecutionEvent { Seq = 1, Exited = new Exited { Signal = 65 } })],
        ["times beyond measure"] = [Event(new ExecutionEvent { Seq = 1, Exited = new Exited { WallMs = ulong.MaxValue } })],
        ["an event after the exit"] = [Event(FakeGuest.Exit(1)), Event(FakeGuest.Out(2, "a"))],
        ["a second exit"] = [Event(FakeGuest.Exit(1)), Event(FakeGuest.Exit(2))],
        ["credit for nothing sent"] = [Credit(1)],
        ["credit of zero"] = [Credit(0)],
        ["a watch event out of order"] = [GuestConnectionTests.Change(Scene.Watch, 2)],
        ["a watch event of no kind"] = [new Frame { Stream = Scene.Watch, WatchEvent = new WatchEvent { Seq = 1, Path = "/w" } }],
    };

    public static TheoryData<string> Names => [.. Breaches.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public async Task A_breach_closes_the_channel(string breach)
    {
        await using var scene = await Scene.BeginAsync();

        foreach (var frame in Breaches[breach])
        {
            try
            {
                await scene.Guest.SendAsync(frame);
            }
            catch (IOException)
            {
                // The host may be faster.
            }
        }

        var reason = await scene.Host.Closed.WaitAsync(FakeGuest.Patience);
        Assert.Contains("broke the protocol", reason, StringComparison.Ordinal);
        Assert.DoesNotContain(reason, char.IsControl);
        await EndsAsync(scene.CodeExecution);
        await EndsAsync(scene.CommandExecution);
        if (!breach.StartsWith("answered", StringComparison.Ordinal))
        {
            await Assert.ThrowsAsync<GuestUnavailableException>(() => scene.Listing.WaitAsync(FakeGuest.Patience));
        }

        await Assert.ThrowsAsync<GuestUnavailableException>(() => scene.Host.PingAsync(CancellationToken.None));
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(524289u)]
    [InlineData(uint.MaxValue)]
    public async Task A_length_out_of_bounds_closes_the_channel(uint length)
    {
        await using var scene = await Scene.BeginAsync();
        await scene.Guest.SendRawAsync(BitConverter.GetBytes(length));
        Assert.Contains("announces", await scene.Host.Closed.WaitAsync(FakeGuest.Patience), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_window_opens_again_with_each_acknowledgement()
    {
        await using var scene = await Scene.BeginAsync();
        var collecting = GuestConnectionTests.CollectAsync(scene.CommandExecution);
        for (ulong seq = 1; seq <= 100; seq++)
        {
            await scene.Guest.SendAsync(Scene.Command, FakeGuest.Out(seq, new string('x', 1000)));
            while ((await scene.Guest.ReceiveAsync()).Input.Ack != seq)
            {
            }
        }

        await scene.Guest.SendAsync(Scene.Command, FakeGuest.Exit(101));
        Assert.Equal(101, (await collecting.WaitAsync(FakeGuest.Patience)).Count);
        Assert.False(scene.Host.Closed.IsCompleted);
    }

    [Fact]
    public async Task A_watch_whose_reader_is_slow_drops_the_oldest_and_says_so()
    {
        await using var scene = await Scene.BeginAsync();
        for (ulong seq = 1; seq <= 1000; seq++)
        {
            await scene.Guest.SendAsync(GuestConnectionTests.Change(Scene.Watch, seq));
        }

        // An answer behind them says that they have all been taken in.
        await scene.Guest.AnswerAsync(Scene.Pending, new Response { Files = new FileList() });
        await scene.Listing.WaitAsync(FakeGuest.Patience);
        await foreach (var change in scene.WatchStream.Events)
        {
            Assert.Equal(744ul, change.Dropped);
            Assert.Equal(745ul, change.Seq);
            break;
        }
    }

    [Fact]
    public async Task A_hello_of_another_version_says_what_to_do()
    {
        await using var guest = new FakeGuest();
        var connecting = GuestConnection.ConnectAsync(guest.HostEnd, "vm", new GuestConnectionOptions(), Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance, CancellationToken.None);
        await guest.ReadHelloAsync();
        await guest.SendRawAsync(ProtocolLimits.Preamble.ToArray());
        await guest.SendAsync(new Frame { Hello = new Hello { Version = 7, Epoch = guest.Epoch } });

        var error = await Assert.ThrowsAsync<GuestUnavailableException>(() => connecting.WaitAsync(FakeGuest.Patience));
        Assert.Contains("Build the template's image again", error.Message, StringComparison.Ordinal);
    }

    private static async Task EndsAsync(IGuestExecution execution)
    {
        try
        {
            Assert.Equal(ExecutionEvent.EventOneofCase.Exited, (await GuestConnectionTests.CollectAsync(execution))[^1].EventCase);
        }
        catch (GuestUnavailableException)
        {
            // The other legal end.
        }
    }

    private static Frame Answer(ulong stream, Response response) => new() { Stream = stream, Response = response };

    private static Frame Event(ExecutionEvent executionEvent) => Frame(Scene.Command, executionEvent);

    private static Frame Frame(ulong stream, ExecutionEvent executionEvent) => new() { Stream = stream, Event = executionEvent };

    private static Frame Credit(ulong offset) => new() { Stream = Scene.Command, StdinCredit = new StdinCredit { Offset = offset } };

    private static Response Files(int count, string path = "/f") => new()
    {
        Files = new FileList { Entries = { Enumerable.Range(0, count).Select(_ => new FileInfo { Path = path, Type = FileType.Regular }) } },
    };

    private static ExecutionEvent Changed(params string[] paths)
    {
        var changed = new ChangedFiles();
        changed.Files.AddRange(paths.Select(p => new ChangedFile { Path = p }));
        return new ExecutionEvent { Seq = 1, ChangedFiles = changed };
    }

    private static RichResult Types(int count)
    {
        var result = new RichResult();
        for (var i = 0; i < count; i++)
        {
            result.Data[$"a/{i}"] = ByteString.Empty;
        }

        return result;
    }
}
