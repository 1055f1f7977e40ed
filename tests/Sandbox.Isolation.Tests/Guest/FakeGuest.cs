using System.Buffers.Binary;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Xunit;

namespace Sandbox.Isolation.Tests.Guest;

/// <summary>
/// A scripted double of the agent at the level of frames: the test says what it sends and looks at what it gets, legal or not.
/// One object is one byte stream; a second one with the same <see cref="BootId"/> is the same guest after a cut.
/// </summary>
public sealed class FakeGuest : IAsyncDisposable
{
    public const string DefaultBootId = "6f1a1f0e-0000-4000-8000-000000000001";

    /// <summary>Generous: a busy machine must not decide a test.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly Stream _stream;
    private readonly FrameReader _reader;

    public FakeGuest(int bufferBytes = 1024 * 1024)
    {
        (HostEnd, _stream) = DuplexPipe.Create(bufferBytes);
        _reader = new FrameReader(_stream);
    }

    /// <summary>What the host connects to.</summary>
    public Stream HostEnd { get; }

    /// <summary>What the hello says of the guest's boot.</summary>
    public string BootId { get; init; } = DefaultBootId;

    /// <summary>The epoch of the host's last hello.</summary>
    public ByteString Epoch { get; private set; } = ByteString.Empty;

    /// <summary>Connects a host to a new fake guest that answers its hello.</summary>
    public static async Task<(FakeGuest Guest, GuestConnection Host)> ConnectAsync(GuestConnectionOptions? options = null)
    {
        var guest = new FakeGuest();
        var connecting = GuestConnection.ConnectAsync(guest.HostEnd, "vm", options ?? new GuestConnectionOptions(), NullLogger.Instance, CancellationToken.None);
        await guest.AnswerHelloAsync();
        return (guest, await connecting.WaitAsync(Patience));
    }

    /// <summary>Joins this guest to a host that knows it from before.</summary>
    public async Task RejoinAsync(GuestConnection host, params RunningExecution[] executions)
    {
        var joining = host.ReconnectAsync(HostEnd, CancellationToken.None);
        await AnswerHelloAsync(executions);
        await joining.WaitAsync(Patience);
    }

    /// <summary>Waits for the host's hello and answers it.</summary>
    public async Task AnswerHelloAsync(params RunningExecution[] executions)
    {
        await ReadHelloAsync();
        await SendHelloAsync(executions);
    }

    /// <summary>Waits for preamble and hello, skipping whatever comes before.</summary>
    public async Task<Hello> ReadHelloAsync()
    {
        var preamble = ProtocolLimits.Preamble.ToArray();
        var window = new List<byte>();
        var one = new byte[1];
        while (!window.TakeLast(preamble.Length).SequenceEqual(preamble))
        {
            Assert.Equal(1, await _stream.ReadAsync(one).AsTask().WaitAsync(Patience));
            window.Add(one[0]);
        }

        var hello = (await ReceiveAsync()).Hello;
        Epoch = hello.Epoch;
        return hello;
    }

    /// <summary>Answers the last hello that was read.</summary>
    public async Task SendHelloAsync(params RunningExecution[] executions)
    {
        var hello = new Hello { Version = ProtocolLimits.Version, Epoch = Epoch, AgentVersion = "fake", BootId = BootId };
        hello.Executions.Add(executions);
        await SendRawAsync(ProtocolLimits.Preamble.ToArray());
        await SendAsync(new Frame { Hello = hello });
    }

    /// <summary>The next frame from the host.</summary>
    public async Task<Frame> ReceiveAsync() => await _reader.ReadAsync(CancellationToken.None).AsTask().WaitAsync(Patience) ?? throw new EndOfStreamException();

    /// <summary>The next frame from the host that is not an acknowledgement.</summary>
    public async Task<Frame> ReceiveButAcksAsync()
    {
        while (true)
        {
            var frame = await ReceiveAsync();
            if (frame.Input?.InputCase != ExecutionInput.InputOneofCase.Ack)
            {
                return frame;
            }
        }
    }

    /// <summary>Sends one frame, whatever it says.</summary>
    public Task SendAsync(Frame frame) => SendRawAsync(Encode(frame));

    /// <summary>Sends an event of an execution.</summary>
    public Task SendAsync(ulong stream, ExecutionEvent executionEvent) => SendAsync(new Frame { Stream = stream, Event = executionEvent });

    /// <summary>Answers a request.</summary>
    public Task AnswerAsync(ulong stream, Response response) => SendAsync(new Frame { Stream = stream, Response = response });

    /// <summary>Sends bytes.</summary>
    public async Task SendRawAsync(byte[] bytes) => await _stream.WriteAsync(bytes).AsTask().WaitAsync(Patience);

    /// <summary>Lets the host start an execution and answers; returns its stream.</summary>
    public async Task<(ulong Stream, IGuestExecution Execution)> StartAsync(GuestConnection host, StartExecution request, uint pid = 42)
    {
        var starting = host.StartExecutionAsync(request, CancellationToken.None);
        var frame = await ReceiveButAcksAsync();
        Assert.Equal(Request.OpOneofCase.Start, frame.Request.OpCase);
        await AnswerAsync(frame.Stream, new Response { Started = new ExecutionStarted { Pid = pid } });
        return (frame.Stream, await starting.WaitAsync(Patience));
    }

    public static byte[] Encode(Frame frame)
    {
        var bytes = new byte[sizeof(uint) + frame.CalculateSize()];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, bytes.Length - sizeof(uint));
        frame.WriteTo(bytes.AsSpan(sizeof(uint)));
        return bytes;
    }

    public static StartExecution Command(string id = "x1", bool stdin = false, uint window = 0) => new()
    {
        ExecutionId = id,
        OutputWindow = window,
        Command = new Command { Argv = { "sh", "-c", "true" }, OpenStdin = stdin },
    };

    public static ExecutionEvent Out(ulong seq, string text) => new() { Seq = seq, Output = new Output { Fd = OutputFd.Stdout, Data = ByteString.CopyFromUtf8(text) } };

    public static ExecutionEvent Exit(ulong seq, int code = 0) => new() { Seq = seq, Exited = new Exited { ExitCode = code } };

    public async ValueTask DisposeAsync() => await _stream.DisposeAsync();
}
