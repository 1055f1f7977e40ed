using System.Buffers.Binary;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

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
internal static class ControlConnection
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
            DescriptorMessage.Send(socket.SafeHandle, header, file);
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
}
