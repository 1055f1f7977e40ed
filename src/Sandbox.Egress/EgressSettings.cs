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

    /// <summary>The model that the operator has set up; <see langword="null"/>: none.</summary>
    public ModelAuditorOptions? Model { get; init; }
}

/// <summary>What a session's judges remember, kept while its settings change: patterns, the owner's answers, the model's budget and verdicts. One for each session on a host; safe for concurrent use.</summary>
/// <param name="owner">The owner's answers so far.</param>
/// <param name="time">Clock.</param>
public sealed class AuditMemory(OwnerDecisions? owner = null, TimeProvider? time = null)
{
    private readonly Lock _gate = new();
    private (ModelAuditorOptions Options, ModelAuditor Auditor)? _model;

    /// <summary>The owner's answers.</summary>
    public OwnerDecisions Owner { get; } = owner ?? new OwnerDecisions();

    /// <summary>What its requests look like over time.</summary>
    public TrafficPatterns Patterns { get; } = new(time);

    /// <summary>The session's model judge: the same, with its budget and verdicts, as long as the options are the same.</summary>
    internal ModelAuditor Model(ModelAuditorOptions options, HttpClient http)
    {
        lock (_gate)
        {
            if (_model is not { } known || known.Options != options)
            {
                _model = known = (options, new ModelAuditor(http, options, time));
            }

            return known.Auditor;
        }
    }
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
