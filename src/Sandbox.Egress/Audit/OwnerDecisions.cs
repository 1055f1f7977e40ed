using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Audit;

/// <summary>What a session's owner answered when asked.</summary>
/// <param name="Host">Host or IPv4 address, exactly; lower case.</param>
/// <param name="Method">Method in capitals; <see langword="null"/>: all.</param>
/// <param name="Path">A path as rules write it: exact, or with a <c>*</c> at its end; <see langword="null"/>: all.</param>
/// <param name="Allow">It may pass.</param>
public sealed record OwnerDecision(string Host, string? Method, string? Path, bool Allow);

/// <summary>The answers of one session's owner, for its life; the latest that matches holds. At most 256: the oldest make room. Safe for concurrent use.</summary>
public sealed class OwnerDecisions
{
    private const int Capacity = 256;
    private readonly Lock _gate = new();
    private readonly List<(OwnerDecision Decision, PathPattern? Path)> _decisions = [];

    /// <summary>Makes one of what was exported.</summary>
    /// <exception cref="ArgumentException">One of them is not valid.</exception>
    public OwnerDecisions(IEnumerable<OwnerDecision>? decisions = null)
    {
        foreach (var decision in decisions ?? [])
        {
            Remember(decision);
        }
    }

    /// <summary>Notes an answer.</summary>
    /// <exception cref="ArgumentException">Its host or path is none.</exception>
    public void Remember(OwnerDecision decision)
    {
        ArgumentNullException.ThrowIfNull(decision);
        if (!Cidrs.TryParseAddress(decision.Host, out _) && HostNames.WhatIsWrong(decision.Host) is { } wrong)
        {
            throw new ArgumentException($"Host '{decision.Host}' {wrong}", nameof(decision));
        }

        PathPattern? path = null;
        if (decision.Path is { } text && !PathPattern.TryParse(text, out path, out var error))
        {
            throw new ArgumentException($"Path '{text}' {error}", nameof(decision));
        }

        lock (_gate)
        {
            _decisions.RemoveAll(d => d.Decision.Host == decision.Host && d.Decision.Method == decision.Method && d.Decision.Path == decision.Path);
            _decisions.Add((decision, path));
            if (_decisions.Count > Capacity)
            {
                _decisions.RemoveAt(0);
            }
        }
    }

    /// <summary>The answer for a request, or <see langword="null"/>.</summary>
    /// <param name="host">Lower case.</param>
    /// <param name="method">Method.</param>
    /// <param name="target">Path as it came; a query is cut off.</param>
    public bool? Find(string host, string method, string target)
    {
        ArgumentNullException.ThrowIfNull(target);
        var query = target.IndexOf('?', StringComparison.Ordinal);
        var normal = RequestPaths.Normalise(query < 0 ? target : target[..query]);
        lock (_gate)
        {
            for (var i = _decisions.Count - 1; i >= 0; i--)
            {
                var (decision, path) = _decisions[i];
                if (decision.Host == host && (decision.Method is null || decision.Method == method) && (path is null || (normal is not null && path.Matches(normal))))
                {
                    return decision.Allow;
                }
            }

            return null;
        }
    }

    /// <summary>All, the oldest first, for keeping with the session.</summary>
    public IReadOnlyList<OwnerDecision> Export()
    {
        lock (_gate)
        {
            return [.. _decisions.Select(d => d.Decision)];
        }
    }
}
