using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Firecracker.Api;

/// <summary>
/// The API of one Firecracker process, over its unix socket. The process belongs to its guest once that runs: what it answers is bounded, read as text, and only ever shown.
/// Every refusal becomes an <see cref="IsolationException"/> that names the call and the reason given.
/// </summary>
internal sealed class FirecrackerClient : IDisposable
{
    /// <summary>Most bytes of an answer, headers not included. The largest that is asked for has some hundred.</summary>
    private const int MaxAnswer = 64 << 10;

    /// <summary>Most characters of a fault that go into an error.</summary>
    private const int MaxFault = 500;

    private readonly HttpClient _http;

    public FirecrackerClient(string socketPath)
    {
        // One connection, so that requests arrive in the order in which they were made and the socket's path is looked up once, before any guest has run.
        var handler = new SocketsHttpHandler
        {
            ConnectCallback = (_, cancellationToken) => ConnectAsync(socketPath, cancellationToken),
            MaxConnectionsPerServer = 1,
            PooledConnectionIdleTimeout = Timeout.InfiniteTimeSpan,
            UseProxy = false,
            UseCookies = false,
            AllowAutoRedirect = false,
            MaxResponseHeadersLength = 16,
        };
        _http = new HttpClient(handler) { BaseAddress = new Uri("http://localhost"), Timeout = Timeout.InfiniteTimeSpan, MaxResponseContentBufferSize = MaxAnswer };
    }

    public void Dispose() => _http.Dispose();

    public async Task<InstanceInfo> DescribeAsync(CancellationToken cancellationToken) =>
        JsonSerializer.Deserialize(await SendAsync(HttpMethod.Get, "/", null, cancellationToken), ApiJson.Default.InstanceInfo)
        ?? throw new IsolationException("Firecracker answered GET / with nothing.");

    public Task PutMachineAsync(MachineConfiguration machine, CancellationToken cancellationToken) => PutAsync("/machine-config", machine, ApiJson.Default.MachineConfiguration, cancellationToken);

    public Task PutBootSourceAsync(BootSource source, CancellationToken cancellationToken) => PutAsync("/boot-source", source, ApiJson.Default.BootSource, cancellationToken);

    public Task PutDriveAsync(Drive drive, CancellationToken cancellationToken) => PutAsync("/drives/" + drive.DriveId, drive, ApiJson.Default.Drive, cancellationToken);

    public Task PutVsockAsync(Vsock vsock, CancellationToken cancellationToken) => PutAsync("/vsock", vsock, ApiJson.Default.Vsock, cancellationToken);

    public Task PutEntropyAsync(EntropyDevice entropy, CancellationToken cancellationToken) => PutAsync("/entropy", entropy, ApiJson.Default.EntropyDevice, cancellationToken);

    public Task StartAsync(CancellationToken cancellationToken) => PutAsync("/actions", new InstanceAction("InstanceStart"), ApiJson.Default.InstanceAction, cancellationToken);

    public Task PauseAsync(CancellationToken cancellationToken) => SetStateAsync("Paused", cancellationToken);

    public Task ResumeAsync(CancellationToken cancellationToken) => SetStateAsync("Resumed", cancellationToken);

    public Task CreateSnapshotAsync(SnapshotCreate snapshot, CancellationToken cancellationToken) => PutAsync("/snapshot/create", snapshot, ApiJson.Default.SnapshotCreate, cancellationToken);

    public Task LoadSnapshotAsync(SnapshotLoad snapshot, CancellationToken cancellationToken) => PutAsync("/snapshot/load", snapshot, ApiJson.Default.SnapshotLoad, cancellationToken);

    private Task SetStateAsync(string state, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Patch, "/vm", JsonSerializer.SerializeToUtf8Bytes(new VmState(state), ApiJson.Default.VmState), cancellationToken);

    private Task PutAsync<T>(string path, T body, JsonTypeInfo<T> type, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Put, path, JsonSerializer.SerializeToUtf8Bytes(body, type), cancellationToken);

    private async Task<byte[]> SendAsync(HttpMethod method, string path, byte[]? body, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(method, path) { Version = HttpVersion.Version11 };
        request.Headers.Accept.Add(new MediaTypeWithQualityHeaderValue("application/json"));
        if (body is not null)
        {
            request.Content = new ByteArrayContent(body) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") } };
        }

        try
        {
            using var response = await _http.SendAsync(request, HttpCompletionOption.ResponseContentRead, cancellationToken);
            var answer = await response.Content.ReadAsByteArrayAsync(cancellationToken);
            return response.IsSuccessStatusCode
                ? answer
                : throw new IsolationException($"Firecracker refused {method} {path} ({(int)response.StatusCode}): {FaultOf(answer)}");
        }
        catch (HttpRequestException e) when (e.InnerException is SocketException socket)
        {
            // Not listening yet, which whoever has just started the process waits for.
            throw socket;
        }
        catch (HttpRequestException e)
        {
            throw new IsolationException($"Firecracker did not answer {method} {path}: {e.Message}", e);
        }
    }

    /// <summary>What the process says went wrong, made fit to be shown.</summary>
    private static string FaultOf(byte[] answer)
    {
        string? message = null;
        try
        {
            message = JsonSerializer.Deserialize(answer, ApiJson.Default.Fault)?.FaultMessage;
        }
        catch (JsonException)
        {
            // Not what the specification says; then what there is.
        }

        var text = new string([.. (message ?? Encoding.Latin1.GetString(answer)).Where(c => c is >= ' ' and < (char)127).Take(MaxFault)]);
        return text.Length > 0 ? text : "no reason given";
    }

    private static async ValueTask<Stream> ConnectAsync(string path, CancellationToken cancellationToken) => await UnixConnector.ConnectAsync(path, cancellationToken);
}
