using System.Globalization;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>
/// HTTP on a unix socket, as narrow as Firecracker's own server: a request line, headers, a body of a stated length and of JSON, one connection after another. What is not exactly that is refused.
/// </summary>
internal sealed class ApiServer(string socketPath, Func<ApiRequest, Task<ApiAnswer>> handle)
{
    private const int MaxHead = 8192;

    /// <summary>Firecracker's default for <c>--http-api-max-payload-size</c>.</summary>
    private const int MaxBody = 51200;

    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(socketPath));
        listener.Listen(10);
        while (true)
        {
            var socket = await listener.AcceptAsync(cancellationToken);
            _ = ServeAsync(socket, cancellationToken);
        }
    }

    private async Task ServeAsync(Socket socket, CancellationToken cancellationToken)
    {
        await using var stream = new NetworkStream(socket, ownsSocket: true);
        try
        {
            while (await ReadHeadAsync(stream, cancellationToken) is { } head)
            {
                var answer = await AnswerAsync(stream, head, cancellationToken);
                await stream.WriteAsync(Encode(answer), cancellationToken);
            }
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            // The caller is gone.
        }
    }

    private async Task<ApiAnswer> AnswerAsync(NetworkStream stream, string head, CancellationToken cancellationToken)
    {
        var lines = head.Split("\r\n");
        if (lines[0].Split(' ') is not [var method, var path, "HTTP/1.1"] || !path.StartsWith('/'))
        {
            return ApiAnswer.Refuse($"Invalid request line: {lines[0]}");
        }

        var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
        foreach (var line in lines[1..].Where(l => l.Length > 0))
        {
            if (line.IndexOf(':', StringComparison.Ordinal) is var colon && (colon <= 0 || !headers.TryAdd(line[..colon], line[(colon + 1)..].Trim())))
            {
                return ApiAnswer.Refuse($"Invalid header: {line}");
            }
        }

        if (headers.ContainsKey("Transfer-Encoding") || headers.ContainsKey("Expect"))
        {
            return ApiAnswer.Refuse("Transfer-Encoding and Expect are not supported");
        }

        var length = 0;
        if (headers.TryGetValue("Content-Length", out var text) && !int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out length))
        {
            return ApiAnswer.Refuse("Invalid Content-Length");
        }

        if (length > MaxBody)
        {
            await stream.ReadExactlyAsync(new byte[Math.Min(length, 1 << 20)], cancellationToken);
            return ApiAnswer.Refuse($"Request payload with size {length} is larger than the limit of {MaxBody} allowed by server.");
        }

        var body = new byte[length];
        await stream.ReadExactlyAsync(body, cancellationToken);
        if (method == "GET")
        {
            return length == 0 ? await handle(new ApiRequest(method, path, null)) : ApiAnswer.Refuse("GET request cannot have a body.");
        }

        if (method is not ("PUT" or "PATCH"))
        {
            return ApiAnswer.Refuse($"Invalid request method: {method}");
        }

        if (length == 0 || !headers.TryGetValue("Content-Type", out var type) || type != "application/json")
        {
            return ApiAnswer.Refuse("The body must be JSON, and its Content-Type application/json.");
        }

        try
        {
            using var document = JsonDocument.Parse(body, new JsonDocumentOptions { MaxDepth = 8 });
            return await handle(new ApiRequest(method, path, document.RootElement.Clone()));
        }
        catch (JsonException e)
        {
            return ApiAnswer.Refuse($"An error occurred when deserializing the json body of a request: {e.Message}");
        }
    }

    private static async Task<string?> ReadHeadAsync(NetworkStream stream, CancellationToken cancellationToken)
    {
        // Byte by byte: the body must stay in the stream, and this is no place for speed.
        var head = new byte[MaxHead];
        for (var length = 0; length < MaxHead; length++)
        {
            if (await stream.ReadAsync(head.AsMemory(length, 1), cancellationToken) == 0)
            {
                return null;
            }

            if (length >= 3 && head.AsSpan(length - 3, 4).SequenceEqual("\r\n\r\n"u8))
            {
                return Encoding.ASCII.GetString(head, 0, length - 3);
            }
        }

        return null;
    }

    private static byte[] Encode(ApiAnswer answer)
    {
        var head = $"HTTP/1.1 {answer.Status} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n";
        return Encoding.UTF8.GetBytes(answer.Body is null
            ? head + "\r\n"
            : FormattableString.Invariant($"{head}Content-Type: application/json\r\nContent-Length: {Encoding.UTF8.GetByteCount(answer.Body)}\r\n\r\n{answer.Body}"));
    }
}

/// <summary>One request.</summary>
internal sealed record ApiRequest(string Method, string Path, JsonElement? Body);

/// <summary>What is answered.</summary>
internal sealed record ApiAnswer(int Status, string? Body)
{
    private static readonly JsonSerializerOptions AsItIs = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static ApiAnswer Done { get; } = new(204, null);

    public static ApiAnswer Refuse(string fault) => new(400, $"{{\"fault_message\":{JsonSerializer.Serialize(fault, AsItIs)}}}");
}
