namespace Sandbox.Abstractions;

/// <summary>
/// What a session may reach. The default reaches nothing. Rules are looked at in order, presets after them, and the first that matches settles it; what none matches falls to <see cref="Unmatched"/>. Addresses that are not
/// public (private, loopback, link-local, metadata, multicast) are out of reach whatever a policy says.
/// </summary>
[GenerateSerializer, Alias("sandbox.egress-policy"), Immutable]
public sealed record EgressPolicy
{
    /// <summary>Nothing may be reached.</summary>
    public static EgressPolicy Nothing { get; } = new();

    /// <summary>Every public address and name, on every TCP port; nothing is looked into.</summary>
    public static EgressPolicy Internet { get; } = new() { Rules = [new EgressRule { Action = EgressAction.Allow, Cidr = "0.0.0.0/0" }, new EgressRule { Action = EgressAction.Allow, Host = "*" }] };

    /// <summary>Whether the rules are enforced or only logged.</summary>
    [Id(0)] public EgressMode Mode { get; init; }

    /// <summary>Names of presets (<c>pip</c>, <c>npm</c>, <c>apt</c>, <c>github</c>, <c>crates</c>, <c>go</c>, <c>nuget</c>, …): hosts that are allowed as if by rules after <see cref="Rules"/>. At most 32.</summary>
    [Id(1)] public IReadOnlyList<string> Presets { get; init; } = [];

    /// <summary>Rules, first match first. At most 256.</summary>
    [Id(2)] public IReadOnlyList<EgressRule> Rules { get; init; } = [];

    /// <summary>What becomes of what no rule and no preset matches. Default: it is denied. <see cref="EgressAction.Audit"/> looks into it and lets the auditor judge.</summary>
    [Id(3)] public EgressAction Unmatched { get; init; } = EgressAction.Deny;

    /// <summary>Names of the tenant's secrets that this session may use by their placeholders. At most 32. A secret brings no permission: its hosts must be allowed too.</summary>
    [Id(4)] public IReadOnlyList<string> Secrets { get; init; } = [];

    /// <summary>How much at a time.</summary>
    [Id(5)] public EgressLimits Limits { get; init; } = new();

    /// <summary>Who judges what is to be audited.</summary>
    [Id(6)] public EgressAuditing Auditing { get; init; } = new();

    /// <summary>Whether nothing at all can be reached under it.</summary>
    public bool ReachesNothing() => Mode == EgressMode.Enforce && Unmatched == EgressAction.Deny && Presets.Count == 0 && Rules.All(r => r?.Action == EgressAction.Deny);

    /// <summary>Whether any traffic is intercepted under it, so that the session must trust its tenant's authority.</summary>
    public bool LooksInside() => Secrets.Count > 0 || Unmatched == EgressAction.Audit || Rules.Any(r => r.Intercept || r.Action == EgressAction.Audit || r.Methods.Count > 0 || r.Paths.Count > 0);
}

/// <summary>One rule: what it matches and what becomes of it. Names a <see cref="Host"/> or a <see cref="Cidr"/>, not both.</summary>
[GenerateSerializer, Alias("sandbox.egress-rule"), Immutable]
public sealed record EgressRule
{
    /// <summary>What becomes of a match.</summary>
    [Id(0)] public EgressAction Action { get; init; }

    /// <summary>A host name (<c>pypi.org</c>), any name below one (<c>*.pypi.org</c>, which <c>pypi.org</c> itself does not match), or any name at all (<c>*</c>). Letters of either case; IDNs in their ASCII form.</summary>
    [Id(1)] public string? Host { get; init; }

    /// <summary>An IPv4 address or range in CIDR form, for connections to an address of it, whether or not a name led there.</summary>
    [Id(2)] public string? Cidr { get; init; }

    /// <summary>TCP ports, 1 to 65535. Empty: 80 and 443 for a host, all for a range. At most 32.</summary>
    [Id(3)] public IReadOnlyList<int> Ports { get; init; } = [];

    /// <summary>HTTP methods in capitals; empty: all. Naming any has the host's traffic intercepted: TLS is ended at the proxy with a certificate of the tenant's own authority.</summary>
    [Id(4)] public IReadOnlyList<string> Methods { get; init; } = [];

    /// <summary>Paths: exact (<c>/simple/</c>), or everything that begins so (<c>/simple/*</c>); empty: all. Compared after decoding and removing dot segments. Naming any has the host's traffic intercepted.</summary>
    [Id(5)] public IReadOnlyList<string> Paths { get; init; } = [];

    /// <summary>The traffic is intercepted even though nothing else in the rule asks for it, so that requests are in the log.</summary>
    [Id(6)] public bool Intercept { get; init; }
}

/// <summary>What becomes of traffic.</summary>
[GenerateSerializer, Alias("sandbox.egress-action")]
public enum EgressAction
{
    /// <summary>It is let through.</summary>
    Allow = 0,

    /// <summary>It is refused.</summary>
    Deny = 1,

    /// <summary>It is intercepted, and the auditor judges each request.</summary>
    Audit = 2,
}

/// <summary>Whether a policy is enforced.</summary>
[GenerateSerializer, Alias("sandbox.egress-mode")]
public enum EgressMode
{
    /// <summary>What is denied does not pass.</summary>
    Enforce = 0,

    /// <summary>What would be denied passes and is logged as such, for learning what a program needs. Addresses that are not public stay out of reach.</summary>
    DryRun = 1,
}

/// <summary>Bounds of one session's traffic.</summary>
[GenerateSerializer, Alias("sandbox.egress-limits"), Immutable]
public sealed record EgressLimits
{
    /// <summary>Connections open at a time, 1 to 4096.</summary>
    [Id(0)] public int Connections { get; init; } = 256;

    /// <summary>New connections in a second, 1 to 1000; bursts of twice as many pass.</summary>
    [Id(1)] public int ConnectionsPerSecond { get; init; } = 50;

    /// <summary>Bytes in a second, each way, over all connections; unset: as many as come.</summary>
    [Id(2)] public long? BytesPerSecond { get; init; }

    /// <summary>DNS queries in a second, 1 to 1000.</summary>
    [Id(3)] public int DnsQueriesPerSecond { get; init; } = 50;
}

/// <summary>Who judges requests that are to be audited, and what happens where nobody can.</summary>
[GenerateSerializer, Alias("sandbox.egress-auditing"), Immutable]
public sealed record EgressAuditing
{
    /// <summary>The rules that are built in: secrets and personal data in bodies, uploads of archives, patterns of scans and beacons, forged requests to inner addresses. They can deny and redact, never allow.</summary>
    [Id(0)] public bool BuiltIn { get; init; } = true;

    /// <summary>The model that the operator has set up judges what the built-in rules do not deny. False, or none set up: <see cref="Otherwise"/> does.</summary>
    [Id(1)] public bool Model { get; init; } = true;

    /// <summary>What becomes of a request that nobody judged, or whose judge failed. Default: denied. Not <see cref="EgressAction.Audit"/>.</summary>
    [Id(2)] public EgressAction Otherwise { get; init; } = EgressAction.Deny;
}
