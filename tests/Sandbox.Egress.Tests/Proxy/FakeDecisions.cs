using System.Net;
using Sandbox.Abstractions;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>A policy by three functions, independent of the real one.</summary>
internal sealed class FakeDecisions : IEgressDecisions
{
    public EgressPolicy Source { get; set; } = new();

    /// <summary>Hosts that pass without being looked into.</summary>
    public HashSet<string> Allowed { get; } = [];

    /// <summary>Hosts that are looked into.</summary>
    public HashSet<string> Intercepted { get; } = [];

    /// <summary>Hosts that are denied by a rule.</summary>
    public HashSet<string> Denied { get; } = [];

    /// <summary>Addresses that pass by a range.</summary>
    public HashSet<IPAddress> Addresses { get; } = [];

    /// <summary>Addresses that are looked into.</summary>
    public HashSet<IPAddress> InterceptedAddresses { get; } = [];

    /// <summary>Settles requests of hosts that are looked into; what it answers nothing to is allowed.</summary>
    public Func<string, string, string, EgressAction?> Requests { get; set; } = (_, _, _) => null;

    private bool IsDryRun => Source.Mode == EgressMode.DryRun;

    private EgressOutcome No => IsDryRun ? EgressOutcome.WouldDeny : EgressOutcome.Denied;

    public NameVerdict JudgeName(string name) => new(EgressOutcome.Allowed, [], true, "rule 1");

    public ConnectionVerdict JudgeConnection(string? name, IPAddress address, int port)
    {
        if (name is not null && Denied.Contains(name))
        {
            return new ConnectionVerdict(No, false, "rule 9", $"{name} is denied.");
        }

        if (name is null ? InterceptedAddresses.Contains(address) : Intercepted.Contains(name))
        {
            return new ConnectionVerdict(EgressOutcome.Allowed, true, "rule 2", "Looked into.");
        }

        return (name is null ? Addresses.Contains(address) : Allowed.Contains(name))
            ? new ConnectionVerdict(EgressOutcome.Allowed, false, "rule 1", "Allowed.")
            : new ConnectionVerdict(No, false, "unmatched", "No rule matches.");
    }

    public RequestVerdict JudgeRequest(string host, int port, string method, string path) => Requests(host, method, path) switch
    {
        EgressAction.Deny when IsDryRun => new RequestVerdict(EgressAction.Allow, true, "rule 3", "Not this path."),
        EgressAction.Deny => new RequestVerdict(EgressAction.Deny, false, "rule 3", "Not this path."),
        EgressAction.Audit => new RequestVerdict(EgressAction.Audit, false, "rule 4", "To be judged."),
        _ => new RequestVerdict(EgressAction.Allow, false, "rule 2", "Allowed."),
    };
}
