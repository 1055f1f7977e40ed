using System.Net;
using CsCheck;
using Sandbox.Abstractions;
using Sandbox.Egress.Policy;
using Xunit;

namespace Sandbox.Egress.Tests.Policy;

/// <summary>The compiled policy against one that does nothing clever.</summary>
public sealed class PolicyPropertyTests
{
    private static readonly string[] Names = ["a.org", "x.a.org", "y.x.a.org", "b.org", "xa.org"];
    private static readonly IPAddress[] Addresses = [IPAddress.Parse("1.2.3.4"), IPAddress.Parse("1.2.9.9"), IPAddress.Parse("9.9.9.9")];
    private static readonly int[] Ports = [22, 80, 443];
    private static readonly string[] Methods = ["GET", "POST"];
    private static readonly string[] Paths = ["/", "/a", "/a/b", "/b"];

    private static readonly Gen<EgressRule> Rules =
        from action in Gen.Enum<EgressAction>()
        from host in Gen.OneOf("a.org", "*.a.org", "*.x.a.org", "*", "b.org")
        from cidr in Gen.OneOf("1.2.3.4", "1.2.0.0/16", "0.0.0.0/0")
        from byName in Gen.Bool
        from ports in Gen.OneOf(Ports).List[0, 2]
        from methods in Gen.OneOf(Methods).List[0, 1]
        from paths in Gen.OneOf("/", "/a", "/a/*", "/*").List[0, 1]
        select new EgressRule { Action = action, Host = byName ? host : null, Cidr = byName ? null : cidr, Ports = ports, Methods = methods, Paths = paths };

    private static readonly Gen<EgressPolicy> Policies =
        from rules in Rules.List[0, 6]
        from unmatched in Gen.Enum<EgressAction>()
        select new EgressPolicy { Rules = rules, Unmatched = unmatched };

    [Fact]
    public void Requests_are_judged_as_by_the_book() =>
        Policies.Sample(policy =>
        {
            IEgressDecisions compiled = new CompiledPolicy(policy);
            foreach (var (name, address, port, method, path) in Requests())
            {
                var expected = Naive(policy, name, address, port, method, path);
                var verdict = compiled.JudgeRequest(name, address, port, method, path);
                Assert.Equal(expected, verdict.Action);
            }
        });

    [Fact]
    public void A_connection_passes_exactly_if_one_of_its_requests_could_and_is_intercepted_if_they_differ() =>
        Policies.Sample(policy =>
        {
            var compiled = new CompiledPolicy(policy);
            foreach (var group in Requests().GroupBy(r => (r.Name, r.Address, r.Port)))
            {
                // "Q" and "/zz" are what no rule names.
                var outcomes = group.Select(r => (r.Method, r.Path)).Append(("Q", "/a")).Append(("GET", "/zz")).Append(("Q", "/zz"))
                    .Select(r => Naive(policy, group.Key.Name, group.Key.Address, group.Key.Port, r.Item1, r.Item2)).ToHashSet();
                var verdict = compiled.JudgeConnection(group.Key.Name, group.Key.Address, group.Key.Port);
                if (outcomes.Any(o => o != EgressAction.Deny))
                {
                    Assert.Equal(EgressOutcome.Allowed, verdict.Outcome);
                    Assert.True(verdict.Intercept || outcomes.SetEquals([EgressAction.Allow]));
                }
                else if (verdict.Outcome != EgressOutcome.Denied)
                {
                    // It may only be let in where requests are judged one by one.
                    Assert.True(verdict.Intercept);
                }
            }
        });

    [Fact]
    public void A_name_resolves_for_exactly_the_ports_that_a_connection_by_name_may_use() =>
        Policies.Sample(policy =>
        {
            // Rules for addresses have no say in what DNS answers.
            var compiled = new CompiledPolicy(policy with { Rules = [.. policy.Rules.Where(r => r.Host is not null)] });
            foreach (var name in Names)
            {
                var verdict = compiled.JudgeName(name);
                foreach (var port in Ports.Where(p => verdict.Outcome == EgressOutcome.Allowed && !verdict.AllPorts && policy.Unmatched == EgressAction.Deny))
                {
                    Assert.Equal(verdict.Ports.Contains(port), compiled.JudgeConnection(name, Addresses[2], port).Outcome == EgressOutcome.Allowed);
                }
            }
        });

    private static IEnumerable<(string Name, IPAddress Address, int Port, string Method, string Path)> Requests() =>
        from name in Names
        from address in Addresses
        from port in Ports
        from method in Methods
        from path in Paths
        select (name, address, port, method, path);

    private static EgressAction Naive(EgressPolicy policy, string name, IPAddress address, int port, string method, string path)
    {
        foreach (var rule in policy.Rules)
        {
            var ports = rule.Ports.Count == 0 && rule.Host is not null ? [80, 443] : rule.Ports;
            var where = rule.Host switch
            {
                null => rule.Cidr == "0.0.0.0/0" || (rule.Cidr == "1.2.0.0/16" && address.ToString().StartsWith("1.2.", StringComparison.Ordinal)) || rule.Cidr == address.ToString(),
                "*" => true,
                ['*', .. var below] => name.EndsWith(below, StringComparison.Ordinal),
                _ => rule.Host == name,
            };
            if (where && (ports.Count == 0 || ports.Contains(port)) && (rule.Methods.Count == 0 || rule.Methods.Contains(method))
                && (rule.Paths.Count == 0 || rule.Paths.Any(p => p.EndsWith('*') ? path.StartsWith(p[..^1], StringComparison.Ordinal) : p == path)))
            {
                return rule.Action;
            }
        }

        return policy.Unmatched;
    }
}
