using Sandbox.Abstractions;
using Sandbox.Egress.Audit;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Log;
using Sandbox.Egress.Policy;
using Sandbox.Egress.Secrets;

namespace Sandbox.Egress.Proxy;

/// <summary>What the proxy of one session decides by, as of now. Replaced whole when the policy or the secrets change.</summary>
public sealed record ProxyContext
{
    /// <summary>Tenant.</summary>
    public required string Tenant { get; init; }

    /// <summary>Session.</summary>
    public required string SessionId { get; init; }

    /// <summary>The policy.</summary>
    public required IEgressDecisions Decisions { get; init; }

    /// <summary>The session's secrets.</summary>
    public required ISecretSwap Secrets { get; init; }

    /// <summary>Who judges what no rule settles: already made of what the policy's <see cref="EgressPolicy.Auditing"/> asks for.</summary>
    public required IEgressAuditor Auditor { get; init; }

    /// <summary>What our DNS has told the session.</summary>
    public required IPinnedNames Names { get; init; }

    /// <summary>The log.</summary>
    public required IEgressLog Log { get; init; }
}
