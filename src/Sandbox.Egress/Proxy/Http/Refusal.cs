using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>Why a request is not sent on, as the guest and the log are told.</summary>
/// <param name="Status">HTTP status.</param>
/// <param name="Error">For programs.</param>
/// <param name="By">What settled it.</param>
/// <param name="Reason">For people.</param>
/// <param name="Advice">What to do about it.</param>
/// <param name="Outcome">For the log.</param>
internal sealed record Refusal(int Status, string Error, string By, string Reason, string Advice, EgressOutcome Outcome = EgressOutcome.Denied)
{
    private const string FixClient = "The program that sent it must be mended; no policy permits it.";

    /// <summary>The connection is not to be used on: what follows on it may not be what it seems.</summary>
    public bool Close { get; init; }

    public static Refusal Malformed(string reason) => new(StatusCodes.Status400BadRequest, "egress_malformed", Connections.ConnectionServer.BuiltIn, reason, FixClient) { Close = true };

    public static Refusal Misdirected(string reason) =>
        new(StatusCodes.Status421MisdirectedRequest, "egress_misdirected", Connections.ConnectionServer.BuiltIn, reason, "Open a connection of its own for each host.");

    public static Refusal Policy(string by, string reason) =>
        new(StatusCodes.Status403Forbidden, "egress_denied", by, reason, "Ask the session's owner to permit it in the egress policy, or do without it.");

    public static Refusal Failed(int status, string reason) =>
        new(status, "egress_failed", Connections.ConnectionServer.BuiltIn, reason, "The policy permits it; the other side is at fault. Try again later.", EgressOutcome.Failed);

    /// <summary>Answers the request.</summary>
    public async Task WriteAsync(HttpContext http, string? host)
    {
        var response = http.Response;
        if (response.HasStarted)
        {
            http.Abort();
            return;
        }

        response.Clear();
        response.StatusCode = Status;
        response.ContentType = "application/json";
        response.Headers.CacheControl = "no-store";
        response.Headers["X-Sandbox-Egress"] = Error;
        if (Close && HttpProtocol.IsHttp11(http.Request.Protocol))
        {
            response.Headers.Connection = "close";
        }

        var body = JsonSerializer.SerializeToUtf8Bytes(new Dictionary<string, string?> { ["error"] = Error, ["host"] = host, ["by"] = By, ["reason"] = Reason, ["advice"] = Advice });
        response.ContentLength = body.Length;
        try
        {
            await response.Body.WriteAsync(body, http.RequestAborted);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            // The guest is gone.
        }
    }
}
