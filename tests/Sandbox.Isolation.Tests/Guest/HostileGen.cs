using CsCheck;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;

namespace Sandbox.Isolation.Tests.Guest;

/// <summary>What a hostile guest may put on the wire, from noise to frames that are almost right.</summary>
public static class HostileGen
{
    private static readonly Gen<string> Text = Gen.OneOf(Gen.String[0, 20], Gen.Const("/w/1"), Gen.Const("\0"), Gen.Const(new string('x', 5000)), Gen.Const("\u001b[2J\u202e"));

    private static readonly Gen<ulong> Number = Gen.OneOf(Gen.ULong[0, 8], Gen.ULong[0, 8], Gen.ULong);

    private static readonly Gen<int> Small = Gen.OneOf(Gen.Int[-2, 300], Gen.Int);

    private static readonly Gen<ByteString> Bytes = Gen.OneOf(Gen.Byte.Array[0, 40], Gen.Byte.Array[0, 40], Gen.Byte.Array[60_000, 70_000]).Select(ByteString.CopyFrom);

    private static readonly Gen<Output> Output = Gen.Select(Gen.Int[0, 5], Bytes, (fd, data) => new Output { Fd = (OutputFd)fd, Data = data });

    private static readonly Gen<RichResult> Result = Gen.Select(Text, Bytes, Gen.Int[0, 200]).Select((type, data, count) =>
    {
        var result = new RichResult { Data = { [type] = data } };
        for (var i = 1; i < count; i++)
        {
            result.Data[$"t/{i}"] = ByteString.Empty;
        }

        return result;
    });

    private static readonly Gen<Exited> Exit = Gen.Select(Small, Gen.OneOf(Gen.Const(0), Gen.Const(9), Gen.Int[-1, 66]), Number).Select((code, signal, wall) => new Exited { ExitCode = code, Signal = signal, WallMs = wall });

    private static readonly Gen<ExecutionEvent> AnyEvent = Gen.OneOf(
        Gen.Select(Number, Output, (seq, o) => new ExecutionEvent { Seq = seq, Output = o }),
        Gen.Select(Number, Result, (seq, r) => new ExecutionEvent { Seq = seq, Result = r }),
        Gen.Select(Number, Text, (seq, t) => new ExecutionEvent { Seq = seq, CodeError = new CodeError { Name = t, Value = t, Traceback = t } }),
        Gen.Select(Number, Exit, (seq, e) => new ExecutionEvent { Seq = seq, Exited = e }),
        Number.Select(seq => new ExecutionEvent { Seq = seq, StdinClosed = new StdinClosed() }),
        Number.Select(seq => new ExecutionEvent { Seq = seq }));

    private static readonly Gen<FileInfo> File = Gen.Select(Text, Gen.Int[0, 6], Number, (path, type, size) => new FileInfo { Path = path, Type = (FileType)type, Size = size, Mode = (uint)size });

    private static readonly Gen<Response> AnyResponse = Gen.OneOf(
        Gen.Const(new Response()),
        Gen.Const(new Response { Empty = new Empty() }),
        Gen.Select(Small, Text, Small, (code, text, errno) => new Response { Error = new Error { Code = (ErrorCode)code, Message = text, Errno = errno } }),
        Number.Select(pid => new Response { Started = new ExecutionStarted { Pid = (uint)pid } }),
        Gen.Select(File.Array[0, 12], Gen.Bool, (files, more) => new Response { Files = new FileList { Entries = { files }, More = more } }),
        File.Select(file => new Response { File = file }),
        Gen.Select(Number, Bytes, (offset, data) => new Response { Chunk = new Chunk { Offset = offset, Data = data } }),
        Gen.Double.Select(load => new Response { Metrics = new Metrics { Load1 = load } }));

    /// <summary>A frame that decodes.</summary>
    public static Gen<Frame> AnyFrame { get; } = Gen.Select(Number, Gen.OneOf(
        AnyEvent.Select(e => new Frame { Event = e }),
        AnyEvent.Select(e => new Frame { Event = e }),
        AnyResponse.Select(r => new Frame { Response = r }),
        Number.Select(n => new Frame { Pong = new Pong { Nonce = n } }),
        Number.Select(n => new Frame { StdinCredit = new StdinCredit { Offset = n } }),
        Gen.Select(Bytes, Gen.Bool, Gen.Bool, (data, end, reset) => new Frame { PortData = new PortData { Data = data, End = end, Reset = reset } }),
        Number.Select(n => new Frame { PortCredit = new PortCredit { Bytes = (uint)n } }),
        Gen.Select(Number, Gen.Int[0, 7], Text, (seq, kind, path) => new Frame { WatchEvent = new WatchEvent { Seq = seq, Kind = (WatchEvent.Types.Kind)kind, Path = path, Dropped = seq } }),
        Gen.Const(new Frame()),
        Number.Select(n => new Frame { Ping = new Ping { Nonce = n } }),
        Gen.Const(new Frame { Hello = new Hello { Version = 1 } }))).Select((stream, frame) =>
        {
            var copy = frame.Clone();
            copy.Stream = stream;
            return copy;
        });

    /// <summary>Bytes that are not, or not quite, a frame.</summary>
    public static Gen<byte[]> Broken { get; } = Gen.OneOf(
        Gen.Byte.Array[1, 200],
        Gen.Select(Gen.UInt, Gen.Byte.Array[0, 50], (length, rest) => (byte[])[.. BitConverter.GetBytes(length), .. rest]),
        Gen.Select(AnyFrame, Gen.Int, Gen.Byte, Mutate),
        Gen.Select(AnyFrame, Gen.Int, Truncate));

    /// <summary>One thing after the other: legal events mostly, so that the deeper states are reached, and then anything.</summary>
    public static Gen<Move[]> Moves { get; } = Gen.Frequency(
        (8, Gen.OneOf(Gen.Const<Move>(new Move.NextEvent(Scene.Command)), Gen.Const<Move>(new Move.NextEvent(Scene.Code)), Gen.Const<Move>(new Move.NextChange()))),
        (1, AnyFrame.Select(f => (Move)new Move.Raw(FakeGuest.Encode(f)))),
        (1, Broken.Select(b => (Move)new Move.Raw(b)))).Array[1, 40];

    private static byte[] Mutate(Frame frame, int at, byte with)
    {
        var bytes = FakeGuest.Encode(frame);
        bytes[(uint)at % (uint)bytes.Length] ^= with;
        return bytes;
    }

    private static byte[] Truncate(Frame frame, int at)
    {
        var bytes = FakeGuest.Encode(frame);
        return bytes[..(int)((uint)at % (uint)bytes.Length)];
    }
}

/// <summary>One step of a hostile guest.</summary>
public abstract record Move
{
    /// <summary>The legal next output of an execution.</summary>
    public sealed record NextEvent(ulong Stream) : Move;

    /// <summary>The legal next change of the watch.</summary>
    public sealed record NextChange : Move;

    /// <summary>Whatever.</summary>
    public sealed record Raw(byte[] Bytes) : Move
    {
        public override string ToString() => Convert.ToHexString(Bytes.AsSpan(0, Math.Min(64, Bytes.Length)));
    }
}
