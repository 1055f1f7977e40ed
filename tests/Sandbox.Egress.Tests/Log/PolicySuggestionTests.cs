using System.Net;
using CsCheck;
using Sandbox.Abstractions;
using Sandbox.Egress.Log;
using Sandbox.Egress.Policy;
using Xunit;

namespace Sandbox.Egress.Tests.Log;

public sealed class PolicySuggestionTests
{
    [Fact]
    public void A_tool_that_a_preset_is_for_is_recognised()
    {
        var suggestion = PolicySuggestion.From([Dns("pypi.org"), Connection("pypi.org", 443), Dns("files.pythonhosted.org"), Dns("registry.npmjs.org")]);

        Assert.Equal(["pip", "npm"], suggestion.Policy.Presets);
        Assert.Empty(suggestion.Policy.Rules);
        Assert.Contains("files.pythonhosted.org, pypi.org belong to it", suggestion.Parts[0].Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void Other_ports_than_the_presets_are_a_rule()
    {
        var suggestion = PolicySuggestion.From([Dns("pypi.org"), Connection("pypi.org", 8443)]);

        Assert.Empty(suggestion.Policy.Presets);
        Assert.Equal(("pypi.org", 8443), (Assert.Single(suggestion.Policy.Rules).Host, Assert.Single(suggestion.Policy.Rules[0].Ports)));
    }

    [Fact]
    public void Three_names_below_a_domain_are_a_wildcard_and_two_are_not()
    {
        var suggestion = PolicySuggestion.From([Dns("a.x.example.org"), Dns("b.x.example.org"), Dns("c.x.example.org"), Dns("example.org"), Dns("a.example.net"), Dns("b.example.net")]);

        Assert.Equal(["*.x.example.org", "a.example.net", "b.example.net", "example.org"], suggestion.Policy.Rules.Select(r => r.Host));
    }

    [Fact]
    public void Methods_are_named_only_where_requests_were_seen()
    {
        var suggestion = PolicySuggestion.From(
        [
            new EgressRecord { Kind = EgressRecordKind.Request, Outcome = EgressOutcome.WouldDeny, Host = "api.example.org", Port = 443, Method = "POST", Path = "/", By = "unmatched" },
            Dns("plain.example.org"),
        ]);

        Assert.Equal(["POST"], suggestion.Policy.Rules[0].Methods);
        Assert.Empty(suggestion.Policy.Rules[1].Methods);
    }

    [Fact]
    public void Addresses_are_ranges_of_one_and_what_no_policy_allows_is_left_out()
    {
        var suggestion = PolicySuggestion.From(
        [
            new EgressRecord { Kind = EgressRecordKind.Connection, Outcome = EgressOutcome.Denied, Address = "93.184.216.34", Port = 5432, By = "unmatched" },
            new EgressRecord { Kind = EgressRecordKind.Connection, Outcome = EgressOutcome.Denied, Address = "10.0.0.1", Port = 5432, By = "built-in" },
            new EgressRecord { Kind = EgressRecordKind.Dns, Outcome = EgressOutcome.Denied, Host = "rebind.example.org", By = "built-in" },
            new EgressRecord { Kind = EgressRecordKind.Request, Outcome = EgressOutcome.Denied, Host = "leak.example.org", Port = 443, Method = "POST", By = "auditor" },
            Dns("fine.example.org") with { Outcome = EgressOutcome.Allowed },
        ]);

        Assert.Equal(("93.184.216.34", 5432), (Assert.Single(suggestion.Policy.Rules).Cidr, Assert.Single(suggestion.Policy.Rules[0].Ports)));
    }

    [Fact]
    public void What_a_rule_denies_is_said_so()
    {
        var suggestion = PolicySuggestion.From([Dns("pypi.org") with { By = "rule 2" }]);

        Assert.Contains("rule 2 denies it", Assert.Single(suggestion.Parts).Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_suggested_lets_everything_through_that_was_refused() =>
        (from host in Gen.OneOf("pypi.org", "files.pythonhosted.org", "a.example.org", "b.example.org", "c.d.example.org", "example.org", "github.com", "codeload.github.com", "x.co.uk")
         from kind in Gen.OneOf(EgressRecordKind.Dns, EgressRecordKind.Connection, EgressRecordKind.Request)
         from port in Gen.OneOf(22, 80, 443, 8443)
         from method in Gen.OneOf("GET", "POST")
         select new EgressRecord { Kind = kind, Outcome = EgressOutcome.WouldDeny, Host = host, Port = kind == EgressRecordKind.Dns ? null : port, Method = kind == EgressRecordKind.Request ? method : null, By = "unmatched" })
        .List[1, 15].Sample(records =>
        {
            var policy = new CompiledPolicy(PolicySuggestion.From(records).Policy);
            foreach (var record in records)
            {
                Assert.Equal(EgressOutcome.Allowed, policy.JudgeName(record.Host!).Outcome);
                if (record.Port is { } port)
                {
                    Assert.Equal(EgressOutcome.Allowed, policy.JudgeConnection(record.Host, IPAddress.Parse("1.1.1.1"), port).Outcome);
                }

                if (record.Method is { } method)
                {
                    Assert.Equal(EgressAction.Allow, policy.JudgeRequest(record.Host!, record.Port!.Value, method, "/x").Action);
                }
            }
        });

    private static EgressRecord Dns(string host) => new() { Kind = EgressRecordKind.Dns, Outcome = EgressOutcome.WouldDeny, Host = host, By = "unmatched" };

    private static EgressRecord Connection(string host, int port) => new() { Kind = EgressRecordKind.Connection, Outcome = EgressOutcome.WouldDeny, Host = host, Port = port, By = "unmatched" };
}
