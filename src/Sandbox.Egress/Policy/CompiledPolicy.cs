using System.Net;
using System.Net.Sockets;
using Sandbox.Abstractions;
using Sandbox.Isolation.Network;

namespace Sandbox.Egress.Policy;

/// <summary>
/// A policy made ready for questions. The first rule that matches settles it, presets after rules, then <see cref="EgressPolicy.Unmatched"/>. A rule for hosts goes by the name and a rule for addresses by the address;
/// a rule with methods or paths that a request does not match leaves it to the next ones. <c>rule 1</c> is the first.
/// </summary>
public sealed class CompiledPolicy : IEgressDecisions
{
    private const string Unmatched = "unmatched";
    private const string BuiltIn = "built-in";
    private static readonly int[] WebPorts = [80, 443];
    private readonly PublicAddresses _addresses;
    private readonly CompiledRule[] _rules;

    /// <summary>Makes a policy ready.</summary>
    /// <param name="policy">A policy that <see cref="PolicyValidation"/> has nothing against.</param>
    /// <param name="addresses">What counts as public; <see langword="null"/>: <see cref="PublicAddresses.Default"/>.</param>
    /// <exception cref="SandboxException">The policy is not valid.</exception>
    public CompiledPolicy(EgressPolicy policy, PublicAddresses? addresses = null)
    {
        ArgumentNullException.ThrowIfNull(policy);
        _addresses = addresses ?? PublicAddresses.Default;
        PolicyValidation.Validate(policy, addresses: _addresses);
        Source = policy;
        _rules =
        [
            .. policy.Rules.Select((r, i) => new CompiledRule(r, $"rule {i + 1}")),
            .. policy.Presets.SelectMany(p => Presets.Find(p)!.Hosts.Select(h => new CompiledRule(h, $"preset {p}"))),
        ];
    }

    /// <inheritdoc/>
    public EgressPolicy Source { get; }

    /// <summary>
    /// What the firewall must have open without any name having been resolved: the ranges of rules that may let something through; everything where unmatched traffic is let through or only logged, and the web's ports where it is
    /// audited. For <see cref="IGuestNetwork.ReplaceAsync"/>, together with the endpoints of names that are pinned. Opening is not permitting: each connection is judged when it comes.
    /// </summary>
    public IReadOnlyList<OpenRange> Ranges
    {
        get
        {
            var all = new IPNetwork(IPAddress.Any, 0);
            if (IsDryRun || Source.Unmatched == EgressAction.Allow)
            {
                return [new OpenRange(all, 1, 65535)];
            }

            var ranges = _rules.Where(r => r.Network is not null && r.Action != EgressAction.Deny).SelectMany(r => Spans(r.Ports).Select(s => new OpenRange(r.Network!.Value, s.First, s.Last)));
            return [.. ranges.Concat(Source.Unmatched == EgressAction.Audit ? Spans(WebPorts).Select(s => new OpenRange(all, s.First, s.Last)) : []).Distinct()];
        }
    }

    private bool IsDryRun => Source.Mode == EgressMode.DryRun;

    /// <inheritdoc/>
    public NameVerdict JudgeName(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        var ports = new SortedSet<int>(Source.Unmatched == EgressAction.Deny ? [] : WebPorts);
        foreach (var rule in _rules)
        {
            if (rule.Action != EgressAction.Deny && rule.MatchesName(name))
            {
                ports.UnionWith(rule.Ports);
            }
        }

        string? by = null;
        ports.RemoveWhere(port =>
        {
            var walk = Walk(name, null, port);
            by ??= walk.MayPass ? walk.By : null;
            return !walk.MayPass;
        });
        if (ports.Count > 0)
        {
            return new NameVerdict(EgressOutcome.Allowed, [.. ports], AllPorts: IsDryRun || Source.Unmatched == EgressAction.Allow, by!);
        }

        var denier = _rules.FirstOrDefault(r => r.Action == EgressAction.Deny && r.MatchesName(name))?.By ?? Unmatched;
        return IsDryRun ? new NameVerdict(EgressOutcome.WouldDeny, [], AllPorts: true, denier) : new NameVerdict(EgressOutcome.Denied, [], AllPorts: false, denier);
    }

    /// <inheritdoc/>
    public ConnectionVerdict JudgeConnection(string? name, IPAddress address, int port)
    {
        ArgumentNullException.ThrowIfNull(address);
        if (address.AddressFamily != AddressFamily.InterNetwork || !_addresses.IsPublic(address))
        {
            return new ConnectionVerdict(EgressOutcome.Denied, false, BuiltIn, $"{address} is not a public IPv4 address; such are out of reach whatever a policy says.");
        }

        var walk = Walk(name, address, port);
        if (walk.MayPass)
        {
            return new ConnectionVerdict(EgressOutcome.Allowed, walk.Intercept, walk.By, walk.Intercept ? $"{walk.By} lets it through and has its requests judged" : $"{walk.By} lets it through");
        }

        var what = name is null ? $"{address}:{port}" : $"{name}:{port}";
        var why = walk.By == Unmatched ? NoRule(name, address, what, port) : $"{walk.By} denies {what}";
        return new ConnectionVerdict(IsDryRun ? EgressOutcome.WouldDeny : EgressOutcome.Denied, IsDryRun && walk.Intercept, walk.By, why);
    }

    /// <inheritdoc/>
    public RequestVerdict JudgeRequest(string host, int port, string method, string path)
    {
        ArgumentNullException.ThrowIfNull(host);
        return JudgeRequest(host, Cidrs.TryParseAddress(host, out var address) ? address : null, port, method, path);
    }

    /// <inheritdoc/>
    public RequestVerdict JudgeRequest(string host, IPAddress? address, int port, string method, string path)
    {
        ArgumentNullException.ThrowIfNull(host);
        ArgumentNullException.ThrowIfNull(method);
        ArgumentNullException.ThrowIfNull(path);
        var normal = RequestPaths.Normalise(path);
        foreach (var rule in _rules)
        {
            if (!rule.Matches(host, address, port) || !rule.MatchesMethod(method))
            {
                continue;
            }

            switch (rule.MatchesPath(normal))
            {
                case true:
                    return Verdict(rule.Action, rule.By, rule.Action == EgressAction.Deny ? $"{rule.By} denies {method} {host}" : $"{rule.By} matches");
                case null:
                    // A rule goes by the path, and servers disagree on what this one means: neither allowing nor passing it on to the next rule would be safe.
                    return Verdict(EgressAction.Deny, rule.By, $"{rule.By} goes by the path, and this one is ambiguous: an encoded slash, a backslash, a control character or a broken encoding. Write it plainly.");
            }
        }

        return Verdict(Source.Unmatched, Unmatched, $"no rule matches {method} {host}:{port} with this path");
    }

    private RequestVerdict Verdict(EgressAction action, string by, string reason) =>
        action == EgressAction.Deny && IsDryRun ? new RequestVerdict(EgressAction.Allow, WouldDeny: true, by, reason) : new RequestVerdict(action, WouldDeny: false, by, reason);

    /// <summary>Goes through the rules for a connection whose requests are not known yet.</summary>
    private (bool MayPass, bool Intercept, string By) Walk(string? name, IPAddress? address, int port)
    {
        string? maybe = null;
        var conditional = false;
        foreach (var rule in _rules)
        {
            if (!rule.Matches(name, address, port))
            {
                continue;
            }

            if (rule.IsConditional)
            {
                // Only its requests tell whether this rule matches: they must be seen, and the rules after it matter too.
                conditional = true;
                maybe ??= rule.Action == EgressAction.Deny ? null : rule.By;
                continue;
            }

            return rule.Action == EgressAction.Deny
                ? (maybe is not null, conditional, maybe ?? rule.By)
                : (true, conditional || rule.Intercepts, maybe ?? rule.By);
        }

        return Source.Unmatched switch
        {
            EgressAction.Allow => (true, conditional, maybe ?? Unmatched),
            EgressAction.Audit => (true, true, maybe ?? Unmatched),
            _ => (maybe is not null, conditional, maybe ?? Unmatched),
        };
    }

    private string NoRule(string? name, IPAddress address, string what, int port)
    {
        var other = Array.Find(_rules, r => r.Action != EgressAction.Deny && ((name is not null && r.MatchesName(name)) || (r.Network?.Contains(address) ?? false)));
        return other is not null
            ? $"{other.By} allows {name ?? address.ToString()} on other ports than {port}"
            : name is null ? $"no rule allows the address {what}; a rule with its host name, and resolving that name, or a rule with a cidr would" : $"no rule or preset allows {what}";
    }

    private static IEnumerable<(int First, int Last)> Spans(int[] ports)
    {
        if (ports.Length == 0)
        {
            yield return (1, 65535);
            yield break;
        }

        var sorted = ports.Distinct().Order().ToArray();
        var first = sorted[0];
        for (var i = 1; i <= sorted.Length; i++)
        {
            if (i == sorted.Length || sorted[i] != sorted[i - 1] + 1)
            {
                yield return (first, sorted[i - 1]);
                first = i < sorted.Length ? sorted[i] : 0;
            }
        }
    }
}
