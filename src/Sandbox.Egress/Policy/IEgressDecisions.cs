using System.Net;
using Sandbox.Abstractions;

namespace Sandbox.Egress.Policy;

/// <summary>A policy made ready for questions. Immutable; a change of policy makes another one. Names are given in lower case ASCII without a final dot.</summary>
public interface IEgressDecisions
{
    /// <summary>What it was made from.</summary>
    EgressPolicy Source { get; }

    /// <summary>Whether our DNS may resolve a name, and for which TCP ports the firewall then opens its addresses.</summary>
    NameVerdict JudgeName(string name);

    /// <summary>What becomes of a connection. A name, where there is one, is the one that the connection itself states (SNI, Host) or, for protocols that state none, the one our DNS was asked for.</summary>
    ConnectionVerdict JudgeConnection(string? name, IPAddress address, int port);

    /// <summary>What becomes of one HTTP request of an intercepted connection. <paramref name="path"/> is as it came, without the query.</summary>
    RequestVerdict JudgeRequest(string host, int port, string method, string path);

    /// <summary>As the other, for a connection whose address is known: rules for addresses are looked at too. Without it they match only a host that is itself an address.</summary>
    RequestVerdict JudgeRequest(string host, IPAddress? address, int port, string method, string path) => JudgeRequest(host, port, method, path);
}

/// <summary>About a name.</summary>
/// <param name="Outcome">Allowed, denied, or would be.</param>
/// <param name="Ports">TCP ports to open; empty together with <paramref name="AllPorts"/> false: none.</param>
/// <param name="AllPorts">Every port.</param>
/// <param name="By">What settled it.</param>
public sealed record NameVerdict(EgressOutcome Outcome, IReadOnlyList<int> Ports, bool AllPorts, string By);

/// <summary>About a connection.</summary>
/// <param name="Outcome">Allowed, denied, or would be.</param>
/// <param name="Intercept">It must be looked into; each request is then judged by itself.</param>
/// <param name="By">What settled it.</param>
/// <param name="Reason">For people.</param>
public sealed record ConnectionVerdict(EgressOutcome Outcome, bool Intercept, string By, string Reason);

/// <summary>About a request.</summary>
/// <param name="Action">Allow, deny, or let the auditor judge.</param>
/// <param name="WouldDeny">It is allowed only because the policy is tried out.</param>
/// <param name="By">What settled it.</param>
/// <param name="Reason">For people.</param>
public sealed record RequestVerdict(EgressAction Action, bool WouldDeny, string By, string Reason);
