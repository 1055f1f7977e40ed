using Sandbox.Abstractions;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Log;

/// <summary>A part of a policy that is suggested: a preset or a rule.</summary>
/// <param name="Preset">Name of a preset, or <see langword="null"/>.</param>
/// <param name="Rule">A rule, or <see langword="null"/>.</param>
/// <param name="Reason">For people: what needed it.</param>
public sealed record SuggestedPart(string? Preset, EgressRule? Rule, string Reason);

/// <summary>
/// The smallest policy that would have let through what was refused, or would have been. What is refused whatever a policy says (addresses that are not public, limits, DNS tunnels) and what an auditor refused is not in it.
/// </summary>
/// <param name="Policy">Its presets and rules; to be put before those of the session's own policy.</param>
/// <param name="Parts">The same, each with its reason.</param>
public sealed record PolicySuggestion(EgressPolicy Policy, IReadOnlyList<SuggestedPart> Parts)
{
    private const int MinForWildcard = 3;

    /// <summary>Makes a suggestion.</summary>
    /// <param name="records">Records of a session's log, best of one with <see cref="EgressMode.DryRun"/>: a program that is refused gives up before it shows all it needs.</param>
    public static PolicySuggestion From(IEnumerable<EgressRecord> records)
    {
        ArgumentNullException.ThrowIfNull(records);
        var needs = new Dictionary<string, Need>(StringComparer.Ordinal);
        foreach (var record in records)
        {
            if (record.Outcome is EgressOutcome.Denied or EgressOutcome.WouldDeny && (record.By is null or "unmatched" || record.By.StartsWith("rule ", StringComparison.Ordinal)) && KeyOf(record) is { } key)
            {
                if (!needs.TryGetValue(key, out var need))
                {
                    needs[key] = need = new Need(key, record.Host is null);
                }

                need.Add(record);
            }
        }

        var left = needs.Values.OrderBy(n => n.Key, StringComparer.Ordinal).ToList();
        List<SuggestedPart> parts = [.. TakePresets(left), .. TakeWildcards(left), .. left.Select(Single)];
        return new PolicySuggestion(new EgressPolicy { Presets = [.. parts.Where(p => p.Preset is not null).Select(p => p.Preset!).Take(PolicyValidation.MaxPresets)], Rules = [.. parts.Where(p => p.Rule is not null).Select(p => p.Rule!).Take(PolicyValidation.MaxRules)] }, parts);
    }

    private static string? KeyOf(EgressRecord record) => record.Kind switch
    {
        EgressRecordKind.Dns or EgressRecordKind.Connection or EgressRecordKind.Request when record.Host is { } host =>
            HostNames.IsValid(host) ? host : Cidrs.TryParseAddress(host, out _) ? host : null,
        EgressRecordKind.Connection => record.Address is { } address && Cidrs.TryParseAddress(address, out var ip) && PublicAddresses.Default.IsPublic(ip) ? address : null,
        _ => null,
    };

    private static IEnumerable<SuggestedPart> TakePresets(List<Need> left)
    {
        while (true)
        {
            // A preset is meant when its first host is among what was needed, or several of the others are.
            var best = Presets.All.Select(p => (Preset: p, Covered: left.Where(n => n.IsCoveredBy(p)).ToArray()))
                .Where(x => x.Covered.Length >= 2 || x.Covered.Any(n => n.Key == x.Preset.Hosts[0].Host))
                .OrderByDescending(x => x.Covered.Length).ThenByDescending(x => x.Covered.Any(n => n.Key == x.Preset.Hosts[0].Host)).ThenBy(x => x.Preset.Hosts.Count).FirstOrDefault();
            if (best.Preset is null)
            {
                yield break;
            }

            left.RemoveAll(best.Covered.Contains);
            yield return new SuggestedPart(best.Preset.Name, null, $"{List(best.Covered)} {(best.Covered.Length == 1 ? "belongs" : "belong")} to it{Warnings(best.Covered)}");
        }
    }

    private static IEnumerable<SuggestedPart> TakeWildcards(List<Need> left)
    {
        var groups = left.Where(n => !n.IsAddress).GroupBy(n => (DnsDefence.RegisteredDomain(n.Key), n.Shape)).ToArray();
        foreach (var group in groups)
        {
            var below = group.Where(n => n.Key != group.Key.Item1).ToArray();
            if (below.Length < MinForWildcard)
            {
                continue;
            }

            left.RemoveAll(below.Contains);
            yield return new SuggestedPart(null, below[0].ToRule() with { Host = "*." + CommonParent(below) }, $"{below.Length} names below one domain: {List(below)}{Warnings(below)}");
        }
    }

    private static string CommonParent(IReadOnlyList<Need> needs)
    {
        // The parents, not the names: a name may be the parent of another.
        var parents = needs.Select(n => n.Key.Split('.').Skip(1).Reverse().ToArray()).ToArray();
        var common = parents[0].TakeWhile((label, i) => parents.All(p => i < p.Length && p[i] == label));
        return string.Join('.', common.Reverse());
    }

    private static SuggestedPart Single(Need need) => new(null, need.ToRule(), $"{need.Count} {(need.Count == 1 ? "refusal" : "refusals")} of {need.Key}{Warnings([need])}");

    private static string List(IReadOnlyList<Need> needs) => string.Join(", ", needs.Take(5).Select(n => n.Key)) + (needs.Count > 5 ? $" and {needs.Count - 5} more" : "");

    private static string Warnings(IReadOnlyList<Need> needs)
    {
        var deniers = needs.SelectMany(n => n.Deniers).Distinct().Order(StringComparer.Ordinal).ToArray();
        return deniers.Length == 0 ? "" : $"; {string.Join(", ", deniers)} denies it, and this must stand before";
    }

    /// <summary>What was refused of one host or address.</summary>
    private sealed class Need(string key, bool byAddress)
    {
        private readonly SortedSet<int> _ports = [];
        private readonly SortedSet<string> _methods = new(StringComparer.Ordinal);
        private bool _whole;

        public string Key => key;

        public bool IsAddress { get; } = byAddress || Cidrs.TryParseAddress(key, out _);

        public long Count { get; private set; }

        public HashSet<string> Deniers { get; } = new(StringComparer.Ordinal);

        /// <summary>What must be equal for one rule to serve several.</summary>
        public string Shape => $"{string.Join(',', _ports)} {(_whole ? "" : string.Join(',', _methods))}";

        public void Add(EgressRecord record)
        {
            Count += record.Count;
            if (record.Port is { } port)
            {
                _ports.Add(port);
            }

            // Methods are known only of requests that were seen. A connection that was refused as a whole needs more than some methods.
            if (record is { Kind: EgressRecordKind.Request, Method: { } method })
            {
                _methods.Add(method);
            }
            else
            {
                _whole = true;
            }

            if (record.By?.StartsWith("rule ", StringComparison.Ordinal) ?? false)
            {
                Deniers.Add(record.By);
            }
        }

        public bool IsCoveredBy(EgressPreset preset) =>
            !IsAddress && _whole && Deniers.Count == 0 && _ports.All(p => preset.Hosts.Any(h => HostPattern.Parse(h.Host).Matches(key) && h.Ports.Contains(p))) && preset.Hosts.Any(h => HostPattern.Parse(h.Host).Matches(key));

        public EgressRule ToRule() => new()
        {
            Host = IsAddress ? null : key,
            Cidr = IsAddress ? key : null,
            Ports = [.. _ports.Take(PolicyValidation.MaxPerRule)],
            Methods = _whole || _methods.Any(m => !m.All(c => char.IsAsciiLetterUpper(c) || c is '-' or '_') || m == "CONNECT") ? [] : [.. _methods],
        };
    }
}
