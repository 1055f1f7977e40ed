using System.Net;
using Sandbox.Abstractions;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Proxy.Connections;

/// <summary>What a connection is judged by, then and again whenever the policy changes.</summary>
/// <param name="Name">The host that it states, or that our DNS was asked for.</param>
/// <param name="IsPinned">Our DNS told the session that the name has this address. Where it did not, the name is a claim, and the address alone must be permitted.</param>
/// <param name="Destination">Where the guest wanted to go.</param>
internal sealed record Subject(string? Name, bool IsPinned, IPEndPoint Destination)
{
    private const string Unmatched = "unmatched";

    /// <summary>The name, where it is more than a claim.</summary>
    public string? PinnedName => IsPinned ? Name : null;

    /// <summary>Judges.</summary>
    public Judgement Judge(IEgressDecisions decisions)
    {
        var address = Destination.Address.ToString();
        var byAddress = new Judgement(decisions.JudgeConnection(null, Destination.Address, Destination.Port), address);
        if (Name is null)
        {
            return byAddress;
        }

        var byName = new Judgement(decisions.JudgeConnection(Name, Destination.Address, Destination.Port), Name);
        if (IsPinned)
        {
            // A range that is permitted is so for hosts that have names too.
            return byName is { IsAllowed: false, Verdict.By: Unmatched } && byAddress.IsAllowed ? byAddress : byName;
        }

        // A name that is denied is not let through because it was stated for an address that is allowed; one that is allowed permits nothing here.
        if (byName is { IsAllowed: false, Verdict.By: not Unmatched } || byAddress.IsAllowed)
        {
            return byName.IsAllowed || byName.Verdict.By == Unmatched ? byAddress : byName;
        }

        var reason = $"{Name} does not belong to {address}: the session's DNS never gave this address for it, or no longer does. {byAddress.Verdict.Reason}";
        return byAddress with { Verdict = byAddress.Verdict with { Reason = reason } };
    }
}

/// <summary>A verdict, and what stands for the host where each request is to be judged.</summary>
internal sealed record Judgement(ConnectionVerdict Verdict, string Host)
{
    public bool IsAllowed => Verdict.Outcome == EgressOutcome.Allowed;

    public bool IsDenied => Verdict.Outcome == EgressOutcome.Denied;

    /// <summary>Judges a request. Where nothing is to be looked into, what goes for the connection goes for all of its requests.</summary>
    public RequestVerdict JudgeRequest(IEgressDecisions decisions, int port, string method, string path) => Verdict.Intercept && !IsDenied
        ? decisions.JudgeRequest(Host, port, method, path)
        : new RequestVerdict(IsDenied ? EgressAction.Deny : EgressAction.Allow, Verdict.Outcome == EgressOutcome.WouldDeny, Verdict.By, Verdict.Reason);
}
