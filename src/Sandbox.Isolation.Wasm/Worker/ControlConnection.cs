using System.Buffers.Binary;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Wasm.Worker;

/// <summary>An order to the worker (its own <c>Control/Order.cs</c> says what each means).</summary>
internal sealed record WorkerOrder
{
    public required string Operation { get; init; }

    public required string VmId { get; init; }

    public string SessionId { get; init; } = "";

    public string Hostname { get; init; } = "";

    public string ImageDirectory { get; init; } = "";

    public int Vcpus { get; init; } = 1;

    public double Cores { get; init; } = 1;

    public long MemoryBytes { get; init; }

    public long DiskBytes { get; init; }
}

/// <summary>What the worker says to one.</summary>
internal sealed record WorkerAnswer(string? Problem);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(WorkerOrder))]
[JsonSerializable(typeof(WorkerAnswer))]
internal sealed partial class WorkerJson : JsonSerializerContext;

/// <summary>Connects to a worker with an order.</summary>
internal static partial class ControlConnection
{
    private const int MaxAnswer = 64 * 1024;

    /// <summary>Sends an order, with a file that it is about, and waits for the answer. The stream is what the order says it is from then on.</summary>
    /// <exception cref="IsolationException">The worker refuses; the message is its own.</exception>
    /// <exception cref="IOException">It is gone.</exception>
    public static async Task<NetworkStream> OpenAsync(string path, WorkerOrder order, SafeFileHandle? file, CancellationToken cancellationToken)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken).ConfigureAwait(false);
            var json = JsonSerializer.SerializeToUtf8Bytes(order, WorkerJson.Default.WorkerOrder);
            var header = new byte[sizeof(int)];
            BinaryPrimitives.WriteInt32LittleEndian(header, json.Length);
            Send(socket.SafeHandle, header, file);
            var stream = new NetworkStream(socket, ownsSocket: true);
            await stream.WriteAsync(json, cancellationToken).ConfigureAwait(false);
            await stream.ReadExactlyAsync(header, cancellationToken).ConfigureAwait(false);
            var length = BinaryPrimitives.ReadInt32LittleEndian(header);
            if (length is <= 0 or > MaxAnswer)
            {
                throw new IsolationException("The WebAssembly worker answered with something illegal.");
            }

            var answer = new byte[length];
            await stream.ReadExactlyAsync(answer, cancellationToken).ConfigureAwait(false);
            return JsonSerializer.Deserialize(answer, WorkerJson.Default.WorkerAnswer) is { Problem: { } problem } ? throw new IsolationException(problem) : stream;
        }
        catch (JsonException e)
        {
            socket.Dispose();
            throw new IsolationException("The WebAssembly worker answered with something illegal.", e);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private static unsafe void Send(SafeHandle socket, byte[] data, SafeFileHandle? file)
    {
        var control = stackalloc byte[24];
        var added = false;
        try
        {
            file?.DangerousAddRef(ref added);
            fixed (byte* bytes = data)
            {
                var part = new IoVector { Base = bytes, Length = (nuint)data.Length };
                var message = new MessageHeader { Parts = &part, PartCount = 1 };
                if (file is not null)
                {
                    // struct cmsghdr { size_t len; int level = SOL_SOCKET; int type = SCM_RIGHTS; } and the descriptor.
                    *(long*)control = 20;
                    *(int*)(control + 8) = 1;
                    *(int*)(control + 12) = 1;
                    *(int*)(control + 16) = (int)file.DangerousGetHandle();
                    message.Control = control;
                    message.ControlLength = 24;
                }

                if (SendMessage(socket, &message, 0x4000) != data.Length)
                {
                    throw new IOException($"sendmsg: {Marshal.GetLastPInvokeErrorMessage()}");
                }
            }
        }
        finally
        {
            if (added)
            {
                file!.DangerousRelease();
            }
        }
    }

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    private static unsafe partial nint SendMessage(SafeHandle socket, MessageHeader* message, int flags);

    private unsafe struct IoVector
    {
        public byte* Base;
        public nuint Length;
    }

    private unsafe struct MessageHeader
    {
        public void* Name;
        public uint NameLength;
        public IoVector* Parts;
        public nuint PartCount;
        public void* Control;
        public nuint ControlLength;
        public int Flags;
    }
}
