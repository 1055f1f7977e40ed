using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Http;

/// <summary>What handlers have in common: grains of the caller's, ids checked before they become keys.</summary>
internal static class Calls
{
    public const string IdempotencyHeader = "Idempotency-Key";
    private const int MaxKeyLength = 255;

    /// <summary>
    /// Says in the API's document what the body is. Any content type reaches the handler, which then says what is wrong with it: routing would answer
    /// a call without a body, too, as if the address did not exist.
    /// </summary>
    public static RouteHandlerBuilder TakesJson<T>(this RouteHandlerBuilder route)
        where T : notnull => route.Accepts<T>(isOptional: true, "application/json", "*/*");

    /// <summary>A session's grain, by an id that has the form of one.</summary>
    public static T Session<T>(this IGrainFactory grains, string sessionId)
        where T : IGrainWithStringKey =>
        SandboxIds.IsSession(sessionId) ? grains.GetGrain<T>(sessionId) : throw SandboxException.NotFound($"There is no session '{Clip(sessionId)}'.");

    /// <summary>An execution id that has the form of one.</summary>
    public static string Execution(string executionId) =>
        SandboxIds.IsExecution(executionId) ? executionId : throw SandboxException.NotFound($"There is no execution '{Clip(executionId)}'.");

    /// <summary>An artifact id that has the form of one.</summary>
    public static string Artifact(string artifactId) =>
        SandboxIds.IsArtifact(artifactId) ? artifactId : throw SandboxException.NotFound($"There is no artifact '{Clip(artifactId)}'.");

    /// <summary>A checkpoint id that has the form of one.</summary>
    public static string Checkpoint(string checkpointId) =>
        SandboxIds.IsCheckpoint(checkpointId) ? checkpointId : throw SandboxException.NotFound($"There is no checkpoint '{Clip(checkpointId)}'.");

    /// <summary>The caller's idempotency key.</summary>
    public static string? IdempotencyKey(this HttpContext context)
    {
        string? key = context.Request.Headers[IdempotencyHeader];
        return string.IsNullOrEmpty(key) ? null
            : key.Length <= MaxKeyLength && key.All(c => c is > ' ' and < (char)127) ? key
            : throw SandboxException.Invalid(IdempotencyHeader, $"An idempotency key has 1 to {MaxKeyLength} printable ASCII characters.");
    }

    /// <summary>A whole number from the query.</summary>
    public static int QueryInt(this HttpContext context, string name, int fallback, int least, int most)
    {
        string? text = context.Request.Query[name];
        return string.IsNullOrEmpty(text) ? fallback
            : int.TryParse(text, out var value) && value >= least && value <= most ? value
            : throw SandboxException.Invalid(name, $"'{name}' must be a whole number from {least} to {most}.");
    }

    /// <summary>A switch from the query: true, false, 1, 0, or named without a value.</summary>
    public static bool QueryFlag(this HttpContext context, string name)
    {
        if (!context.Request.Query.TryGetValue(name, out var values))
        {
            return false;
        }

        return values.ToString() switch
        {
            "" or "true" or "1" => true,
            "false" or "0" => false,
            _ => throw SandboxException.Invalid(name, $"'{name}' must be true or false."),
        };
    }

    /// <summary>A required text from the query.</summary>
    public static string QueryText(this HttpContext context, string name)
    {
        string? text = context.Request.Query[name];
        return string.IsNullOrEmpty(text) ? throw SandboxException.Invalid(name, $"'{name}' is required.") : text;
    }

    private static string Clip(string text) => text.Length <= 64 ? text : text[..64] + "…";
}
