using System.Text;

namespace Sandbox.Egress.Audit;

/// <summary>The model that judges requests: an endpoint that speaks OpenAI's chat completions with strict JSON schemas.</summary>
public sealed record ModelAuditorOptions
{
    /// <summary>Address that <c>/chat/completions</c> is below, for example <c>https://api.openai.com/v1</c>.</summary>
    public required Uri BaseUrl { get; init; }

    /// <summary>Sent as a bearer token; <see langword="null"/>: none.</summary>
    public string? ApiKey { get; init; }

    /// <summary>Name of the model.</summary>
    public required string Model { get; init; }

    /// <summary>For one judgement, all in all. Default: 10 s.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Most calls for one session in an hour. Default: 200.</summary>
    public int CallsPerHour { get; init; } = 200;

    /// <summary>Most tokens for one session in an hour, asked and answered. Default: 500000.</summary>
    public long TokensPerHour { get; init; } = 500_000;

    /// <summary>Most characters of a body that are shown. A longer body is not judged, because what is not shown could be anything. Default: 32768.</summary>
    public int MaxBodyCharacters { get; init; } = 32 * 1024;

    /// <summary>How long a verdict holds for requests that are equal. Default: 10 minutes.</summary>
    public TimeSpan CacheTime { get; init; } = TimeSpan.FromMinutes(10);

    // A key must not get into a log with the rest.
    private bool PrintMembers(StringBuilder builder)
    {
        builder.Append(null, $"BaseUrl = {BaseUrl}, Model = {Model}, Timeout = {Timeout}");
        return true;
    }
}

/// <summary>A judge failed: did not answer in time, answered something else than was asked for, or may not be asked any more.</summary>
/// <param name="message">For people and the log.</param>
/// <param name="inner">What it failed with.</param>
public sealed class AuditFailedException(string message, Exception? inner = null) : Exception(message, inner);
