using System.Net;
using Sandbox.Abstractions;

namespace Sandbox.Egress.Policy;

/// <summary>A rule, or a host of a preset, made ready.</summary>
internal sealed class CompiledRule
{
    private static readonly int[] WebPorts = [80, 443];

    private readonly IPNetwork? _network;
    private readonly HostPattern? _host;
    private readonly string[] _methods;
    private readonly PathPattern[] _paths;

    public CompiledRule(EgressRule rule, string by)
    {
        By = by;
        Action = rule.Action;
        Intercepts = rule.Intercept || rule.Action == EgressAction.Audit;
        _host = rule.Host is null ? null : HostPattern.Parse(rule.Host);
        _network = rule.Cidr is null ? null : Cidrs.TryParse(rule.Cidr, out var network, out var error) ? network : throw new ArgumentException($"Cidr '{rule.Cidr}' {error}", nameof(rule));
        Ports = rule.Ports.Count == 0 && _host is not null ? WebPorts : [.. rule.Ports];
        _methods = [.. rule.Methods];
        _paths = [.. rule.Paths.Select(p => PathPattern.TryParse(p, out var pattern, out var wrong) ? pattern : throw new ArgumentException($"Path '{p}' {wrong}", nameof(rule)))];
    }

    public CompiledRule(PresetHost host, string by)
        : this(new EgressRule { Action = EgressAction.Allow, Host = host.Host, Ports = host.Ports }, by)
    {
    }

    public string By { get; }

    public EgressAction Action { get; }

    /// <summary>Asks for interception by itself.</summary>
    public bool Intercepts { get; }

    /// <summary>Whether it can match only once a request is seen.</summary>
    public bool IsConditional => _methods.Length > 0 || _paths.Length > 0;

    /// <summary>Ports; empty: all.</summary>
    public int[] Ports { get; }

    public IPNetwork? Network => _network;

    public bool IsForHosts => _host is not null;

    public bool MatchesName(string name) => _host is not null && _host.Matches(name);

    public bool MatchesPort(int port) => Ports.Length == 0 || Array.IndexOf(Ports, port) >= 0;

    /// <summary>A rule for hosts goes by the name, one for addresses by the address; what is not known does not match.</summary>
    public bool Matches(string? name, IPAddress? address, int port) =>
        MatchesPort(port) && (_host is not null ? name is not null && _host.Matches(name) : address is not null && _network!.Value.Contains(address));

    public bool MatchesMethod(string method) => _methods.Length == 0 || Array.IndexOf(_methods, method) >= 0;

    /// <summary>Whether a path falls under it; <see langword="null"/> where that cannot be told (<see cref="RequestPaths.Normalise"/>).</summary>
    public bool? MatchesPath(string? normalised) => _paths.Length == 0 ? true : normalised is null ? null : Array.Exists(_paths, p => p.Matches(normalised));
}
