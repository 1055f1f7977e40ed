namespace Sandbox.Egress.Audit;

/// <summary>Judges requests that no rule settles. Safe for concurrent use. Answers within its own time limit; a failure is an exception, and the policy says what then becomes of the request.</summary>
public interface IEgressAuditor
{
    /// <summary>Judges a request before anything of it is sent on.</summary>
    Task<AuditVerdict> JudgeAsync(AuditRequest request, CancellationToken cancellationToken);
}

/// <summary>A request as an auditor sees it.</summary>
public sealed record AuditRequest
{
    /// <summary>Tenant.</summary>
    public required string Tenant { get; init; }

    /// <summary>Session.</summary>
    public required string SessionId { get; init; }

    /// <summary><c>http</c> or <c>https</c>.</summary>
    public required string Scheme { get; init; }

    /// <summary>Host.</summary>
    public required string Host { get; init; }

    /// <summary>Port.</summary>
    public required int Port { get; init; }

    /// <summary>Method.</summary>
    public required string Method { get; init; }

    /// <summary>Path and query as they came.</summary>
    public required string Target { get; init; }

    /// <summary>Headers; placeholders of secrets, never their values.</summary>
    public required IReadOnlyList<KeyValuePair<string, string>> Headers { get; init; }

    /// <summary>The first part of the body, at most <see cref="BodyLimit"/> bytes, decompressed where its encoding is known.</summary>
    public ReadOnlyMemory<byte> Body { get; init; }

    /// <summary>The body is longer than what is in <see cref="Body"/>.</summary>
    public bool BodyIsCut { get; init; }

    /// <summary>Length of the body where it was stated.</summary>
    public long? BodyLength { get; init; }

    /// <summary>Most bytes of a body that are shown to an auditor.</summary>
    public const int BodyLimit = 256 * 1024;
}

/// <summary>A verdict.</summary>
/// <param name="Decision">What becomes of the request.</param>
/// <param name="Reason">For people and the log; never contains what was found, only what kind it was.</param>
/// <param name="By"><c>built-in</c>, <c>model</c>, <c>owner</c>, or <c>auditor</c> where nobody judged and the policy says what then.</param>
/// <param name="Redactions">With <see cref="AuditDecision.Redact"/>: the parts of <see cref="AuditRequest.Body"/> to be overwritten with <c>*</c>; a body that was cut, compressed or is streamed cannot be redacted and is denied instead.</param>
public sealed record AuditVerdict(AuditDecision Decision, string Reason, string By, IReadOnlyList<Range>? Redactions = null);

/// <summary>What an auditor decides.</summary>
public enum AuditDecision
{
    /// <summary>It knows nothing against it.</summary>
    Allow = 0,

    /// <summary>It must not pass.</summary>
    Deny = 1,

    /// <summary>It may pass without some parts.</summary>
    Redact = 2,

    /// <summary>Its owner must be asked; it does not pass meanwhile.</summary>
    Ask = 3,
}
