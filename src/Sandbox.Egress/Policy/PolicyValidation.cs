using System.Net;
using Sandbox.Abstractions;

namespace Sandbox.Egress.Policy;

/// <summary>Tells what is wrong with a policy before anything is done with it.</summary>
public static class PolicyValidation
{
    /// <summary>Most rules of a policy.</summary>
    public const int MaxRules = 256;

    /// <summary>Most presets of a policy.</summary>
    public const int MaxPresets = 32;

    /// <summary>Most secrets of a policy.</summary>
    public const int MaxSecrets = 32;

    /// <summary>Most ports, methods or paths of a rule.</summary>
    public const int MaxPerRule = 32;

    /// <summary>Checks a policy whole.</summary>
    /// <param name="policy">The policy.</param>
    /// <param name="field">What the request calls it; errors name fields below it.</param>
    /// <param name="addresses">What counts as public; <see langword="null"/>: <see cref="PublicAddresses.Default"/>.</param>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.InvalidArgument"/>: names the field, the value and what is allowed.</exception>
    public static void Validate(EgressPolicy policy, string field = "egress", PublicAddresses? addresses = null)
    {
        ArgumentNullException.ThrowIfNull(policy);
        RequireDefined(policy.Mode, $"{field}.mode", "Enforce or DryRun");
        RequireDefined(policy.Unmatched, $"{field}.unmatched", "Allow, Deny or Audit");
        RequireList(policy.Presets, MaxPresets, $"{field}.presets");
        RequireList(policy.Rules, MaxRules, $"{field}.rules");
        RequireList(policy.Secrets, MaxSecrets, $"{field}.secrets");
        for (var i = 0; i < policy.Presets.Count; i++)
        {
            var name = policy.Presets[i];
            Require(name is not null && Presets.Find(name) is not null, $"{field}.presets[{i}]", $"'{name}' is no preset; there are: {string.Join(", ", Presets.All.Select(p => p.Name))}.");
        }

        RequireDistinct(policy.Presets, $"{field}.presets");
        for (var i = 0; i < policy.Rules.Count; i++)
        {
            Check(policy.Rules[i], i + 1, $"{field}.rules[{i}]", addresses ?? PublicAddresses.Default);
        }

        for (var i = 0; i < policy.Secrets.Count; i++)
        {
            var name = policy.Secrets[i];
            Require(Secrets.SecretValidation.IsName(name), $"{field}.secrets[{i}]", $"'{name}' is no name of a secret: a small letter, then at most 62 small letters, digits and '-'.");
        }

        RequireDistinct(policy.Secrets, $"{field}.secrets");
        Check(policy.Limits, $"{field}.limits");
        Require(policy.Auditing is not null, $"{field}.auditing", "Auditing is null; leave it out for the defaults.");
        Require(policy.Auditing!.Otherwise is EgressAction.Allow or EgressAction.Deny, $"{field}.auditing.otherwise", $"'{policy.Auditing.Otherwise}' cannot be what happens where nobody judged; Allow or Deny can.");
    }

    private static void Check(EgressRule? rule, int number, string field, PublicAddresses addresses)
    {
        var name = $"Rule {number}";
        Require(rule is not null, field, $"{name} is null.");
        RequireDefined(rule!.Action, $"{field}.action", "Allow, Deny or Audit");
        Require(rule.Host is not null || rule.Cidr is not null, field, $"{name} names neither a host nor a cidr; it needs one of them. For every name: \"host\": \"*\".");
        Require(rule.Host is null || rule.Cidr is null, field, $"{name} names a host and a cidr; make two rules of it.");
        if (rule.Host is { } host)
        {
            Require(HostPattern.TryParse(host, out _, out var error), $"{field}.host", $"{name}: host '{host}' {error}");
        }

        if (rule.Cidr is { } cidr)
        {
            Require(Cidrs.TryParse(cidr, out IPNetwork network, out var error), $"{field}.cidr", $"{name}: cidr '{cidr}' {error}");
            Require(rule.Action == EgressAction.Deny || !addresses.IsWhollyNotPublic(network), $"{field}.cidr", $"{name}: cidr '{cidr}' holds no public address. Private, loopback, link-local, metadata and multicast addresses are out of reach whatever a policy says.");
        }

        RequireList(rule.Ports, MaxPerRule, $"{field}.ports");
        RequireList(rule.Methods, MaxPerRule, $"{field}.methods");
        RequireList(rule.Paths, MaxPerRule, $"{field}.paths");
        for (var i = 0; i < rule.Ports.Count; i++)
        {
            Require(rule.Ports[i] is >= 1 and <= 65535, $"{field}.ports[{i}]", $"{name}: port {rule.Ports[i]} is not from 1 to 65535.");
        }

        for (var i = 0; i < rule.Methods.Count; i++)
        {
            var method = rule.Methods[i];
            Require(method is { Length: >= 1 and <= 32 } && method.All(c => char.IsAsciiLetterUpper(c) || c is '-' or '_'), $"{field}.methods[{i}]", $"{name}: method '{method}' is not 1 to 32 capital letters, like GET.");
            Require(method != "CONNECT", $"{field}.methods[{i}]", $"{name}: CONNECT is for proxies and never passes.");
        }

        for (var i = 0; i < rule.Paths.Count; i++)
        {
            var path = rule.Paths[i];
            string? error = "is null.";
            Require(path is not null && PathPattern.TryParse(path, out _, out error), $"{field}.paths[{i}]", $"{name}: path '{path}' {error}");
        }
    }

    private static void Check(EgressLimits? limits, string field)
    {
        Require(limits is not null, field, "Limits are null; leave them out for the defaults.");
        RequireRange(limits!.Connections, 4096, $"{field}.connections");
        RequireRange(limits.ConnectionsPerSecond, 1000, $"{field}.connectionsPerSecond");
        RequireRange(limits.DnsQueriesPerSecond, 1000, $"{field}.dnsQueriesPerSecond");
        Require(limits.BytesPerSecond is null or (>= 1024 and <= 1L << 40), $"{field}.bytesPerSecond", $"{limits.BytesPerSecond} is not from 1024 (1 KiB) to {1L << 40} (1 TiB); leave it out for as many as come.");
    }

    private static void RequireRange(int value, int max, string field) => Require(value >= 1 && value <= max, field, $"{value} is not from 1 to {max}.");

    private static void RequireDefined<T>(T value, string field, string allowed)
        where T : struct, Enum => Require(Enum.IsDefined(value), field, $"'{value}' is not {allowed}.");

    private static void RequireList<T>(IReadOnlyList<T>? list, int max, string field)
    {
        Require(list is not null, field, "It is null; leave it out for none.");
        Require(list!.Count <= max, field, $"There are {list.Count}; at most {max} are allowed.");
    }

    private static void RequireDistinct(IReadOnlyList<string> names, string field)
    {
        var twice = names.GroupBy(n => n, StringComparer.Ordinal).FirstOrDefault(g => g.Count() > 1)?.Key;
        Require(twice is null, field, $"'{twice}' is named twice; name it once.");
    }

    private static void Require(bool good, string field, string message)
    {
        if (!good)
        {
            throw SandboxException.Invalid(field, message);
        }
    }
}
