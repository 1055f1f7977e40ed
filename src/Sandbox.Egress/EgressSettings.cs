using Sandbox.Abstractions;
using Sandbox.Egress.Audit;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Policy;
using Sandbox.Egress.Secrets;

namespace Sandbox.Egress;

/// <summary>All that decides what one session may do on the network, as of now.</summary>
public sealed record EgressSettings
{
    /// <summary>The policy.</summary>
    public required EgressPolicy Policy { get; init; }

    /// <summary>The tenant's secrets with their values; those that <see cref="EgressPolicy.Secrets"/> does not name are left out.</summary>
    public IReadOnlyList<SecretBinding> Secrets { get; init; } = [];
}

/// <summary>What a session's judges remember, kept while its settings change: patterns, the owner's answers, the model's budget and verdicts. One for each session on a host.</summary>
public sealed class AuditMemory
{
    /// <summary>Makes one.</summary>
    /// <param name="owner">The owner's answers so far.</param>
    /// <param name="model">The session's own model judge, or <see langword="null"/> where the operator has set up none.</param>
    /// <param name="time">Clock.</param>
    public AuditMemory(OwnerDecisions? owner = null, IEgressAuditor? model = null, TimeProvider? time = null)
    {
        Owner = owner ?? new OwnerDecisions();
        Model = model;
        Patterns = new TrafficPatterns(time);
    }

    /// <summary>The owner's answers.</summary>
    public OwnerDecisions Owner { get; }

    /// <summary>The model.</summary>
    public IEgressAuditor? Model { get; }

    /// <summary>What its requests look like over time.</summary>
    public TrafficPatterns Patterns { get; }
}

/// <summary>The DNS side of a session on a host, made together because its parts must know each other.</summary>
/// <param name="Resolver">Resolves and keeps.</param>
/// <param name="Names">What the session was told.</param>
public sealed record SessionNames(NameResolver Resolver, PinnedNames Names)
{
    /// <summary>Makes them.</summary>
    /// <param name="upstream">Who is asked.</param>
    /// <param name="addresses">What counts as public.</param>
    /// <param name="time">Clock.</param>
    public static SessionNames Over(IUpstreamResolver upstream, PublicAddresses? addresses = null, TimeProvider? time = null)
    {
        var resolver = new NameResolver(upstream, addresses, time);
        return new SessionNames(resolver, new PinnedNames(resolver, time));
    }
}
