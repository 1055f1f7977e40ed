using System.Net;
using Sandbox.Abstractions;
using Sandbox.Egress.Policy;
using Sandbox.Isolation.Network;
using Xunit;

namespace Sandbox.Egress.Tests.Policy;

public sealed class CompiledPolicyTests
{
    private static readonly IPAddress Public = IPAddress.Parse("93.184.216.34");

    [Fact]
    public void Nothing_is_reachable_by_default()
    {
        var policy = new CompiledPolicy(EgressPolicy.Nothing);

        Assert.Equal(EgressOutcome.Denied, policy.JudgeName("example.org").Outcome);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeConnection(null, Public, 443).Outcome);
        Assert.Equal(EgressAction.Deny, policy.JudgeRequest("example.org", 443, "GET", "/").Action);
        Assert.Empty(policy.Ranges);
    }

    [Theory]
    [InlineData("10.0.0.1")]
    [InlineData("127.0.0.1")]
    [InlineData("169.254.169.254")]
    [InlineData("100.100.100.200")]
    [InlineData("168.63.129.16")]
    [InlineData("0.0.0.0")]
    [InlineData("224.0.0.1")]
    [InlineData("255.255.255.255")]
    [InlineData("::1")]
    [InlineData("::ffff:10.0.0.1")]
    [InlineData("fd00::1")]
    public void Addresses_that_are_not_public_are_denied_whatever_the_policy_says(string address)
    {
        foreach (var mode in Enum.GetValues<EgressMode>())
        {
            var verdict = new CompiledPolicy(EgressPolicy.Internet with { Mode = mode, Unmatched = EgressAction.Allow }).JudgeConnection("example.org", IPAddress.Parse(address), 443);
            Assert.Equal(EgressOutcome.Denied, verdict.Outcome);
            Assert.Equal("built-in", verdict.By);
        }
    }

    [Fact]
    public void Tests_may_count_loopback_as_public()
    {
        var addresses = new PublicAddresses([IPNetwork.Parse("127.0.0.0/8")]);
        var policy = new CompiledPolicy(Of(new EgressRule { Cidr = "127.0.0.1", Ports = [8080] }), addresses);

        Assert.Equal(EgressOutcome.Allowed, policy.JudgeConnection(null, IPAddress.Loopback, 8080).Outcome);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeConnection(null, IPAddress.Parse("10.0.0.1"), 8080).Outcome);
    }

    [Fact]
    public void A_wildcard_matches_below_a_name_but_not_the_name_itself()
    {
        var policy = new CompiledPolicy(Of(new EgressRule { Host = "*.PyPI.org" }));

        Assert.Equal(EgressOutcome.Allowed, policy.JudgeName("files.pypi.org").Outcome);
        Assert.Equal(EgressOutcome.Allowed, policy.JudgeName("a.b.pypi.org").Outcome);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeName("pypi.org").Outcome);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeName("notpypi.org").Outcome);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeName("pypi.org.evil.example").Outcome);
    }

    [Fact]
    public void A_name_opens_the_ports_of_the_rules_that_let_it_through()
    {
        var policy = new CompiledPolicy(Of(
            new EgressRule { Action = EgressAction.Deny, Host = "git.example.org", Ports = [80] },
            new EgressRule { Host = "*.example.org" },
            new EgressRule { Host = "git.example.org", Ports = [22] }));

        var verdict = policy.JudgeName("git.example.org");

        Assert.Equal([22, 443], verdict.Ports);
        Assert.False(verdict.AllPorts);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeConnection("git.example.org", Public, 80).Outcome);
        Assert.Equal("rule 1", policy.JudgeConnection("git.example.org", Public, 80).By);
        Assert.Equal("rule 3", policy.JudgeConnection("git.example.org", Public, 22).By);
        Assert.Contains("other ports", policy.JudgeConnection("git.example.org", Public, 8080).Reason, StringComparison.Ordinal);
    }

    [Fact]
    public void A_rule_with_methods_or_paths_leaves_what_it_does_not_match_to_the_next()
    {
        var policy = new CompiledPolicy(Of(
            new EgressRule { Host = "api.example.org", Methods = ["GET", "HEAD"], Paths = ["/v1/*"] },
            new EgressRule { Action = EgressAction.Audit, Host = "api.example.org", Paths = ["/v1/upload"] }));

        Assert.Equal(new ConnectionVerdict(EgressOutcome.Allowed, true, "rule 1", "rule 1 lets it through and has its requests judged"), policy.JudgeConnection("api.example.org", Public, 443));
        Assert.Equal(EgressAction.Allow, policy.JudgeRequest("api.example.org", 443, "GET", "/v1/x").Action);
        Assert.Equal(EgressAction.Audit, policy.JudgeRequest("api.example.org", 443, "POST", "/v1/upload").Action);
        Assert.Equal("rule 2", policy.JudgeRequest("api.example.org", 443, "POST", "/x/../v1/upload").By);
        Assert.Equal(("unmatched", EgressAction.Deny), (policy.JudgeRequest("api.example.org", 443, "POST", "/v1/x").By, policy.JudgeRequest("api.example.org", 443, "POST", "/v1/x").Action));
        Assert.Equal(EgressAction.Deny, policy.JudgeRequest("api.example.org", 443, "GET", "/v1/../secret").Action);
        Assert.Equal(EgressAction.Deny, policy.JudgeRequest("api.example.org", 443, "GET", "/v1/%2e%2e%2fsecret").Action);
        Assert.Equal(EgressAction.Deny, policy.JudgeRequest("api.example.org", 8443, "GET", "/v1/x").Action);
    }

    [Fact]
    public void An_ambiguous_path_matters_only_to_rules_that_go_by_the_path()
    {
        var policy = new CompiledPolicy(Of(
            new EgressRule { Host = "registry.npmjs.org", Intercept = true },
            new EgressRule { Action = EgressAction.Deny, Host = "x.example.org", Paths = ["/admin/*"] },
            new EgressRule { Host = "x.example.org" }));

        Assert.Equal(EgressAction.Allow, policy.JudgeRequest("registry.npmjs.org", 443, "GET", "/@babel%2fcore").Action);
        Assert.Equal(EgressAction.Deny, policy.JudgeRequest("x.example.org", 443, "GET", "/a%2f..%2fadmin/x").Action);
        Assert.True(policy.JudgeConnection("x.example.org", Public, 443).Intercept);
    }

    [Fact]
    public void A_connection_that_only_rules_of_denial_concern_is_refused_at_once()
    {
        var policy = new CompiledPolicy(Of(
            new EgressRule { Action = EgressAction.Deny, Host = "x.example.org", Methods = ["POST"] },
            new EgressRule { Action = EgressAction.Deny, Host = "x.example.org" },
            new EgressRule { Host = "*" }));

        Assert.Equal(EgressOutcome.Denied, policy.JudgeConnection("x.example.org", Public, 443).Outcome);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeName("x.example.org").Outcome);
    }

    [Fact]
    public void Rules_for_addresses_go_by_the_address_and_rules_for_names_need_a_name()
    {
        var policy = new CompiledPolicy(Of(
            new EgressRule { Action = EgressAction.Deny, Cidr = "93.184.216.0/25" },
            new EgressRule { Cidr = "93.184.0.0/16", Ports = [443, 444, 8443] },
            new EgressRule { Host = "example.org" }));

        Assert.Equal("rule 1", policy.JudgeConnection("example.org", Public, 443).By);
        Assert.Equal("rule 2", policy.JudgeConnection(null, IPAddress.Parse("93.184.1.1"), 8443).By);
        Assert.Equal("rule 3", policy.JudgeConnection("example.org", IPAddress.Parse("1.1.1.1"), 443).By);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeConnection(null, IPAddress.Parse("1.1.1.1"), 443).Outcome);
        Assert.Equal([new OpenRange(IPNetwork.Parse("93.184.0.0/16"), 443, 444), new OpenRange(IPNetwork.Parse("93.184.0.0/16"), 8443, 8443)], policy.Ranges);
        Assert.Equal(EgressAction.Allow, policy.JudgeRequest("93.184.1.1", 443, "GET", "/").Action);
        Assert.Equal(EgressAction.Allow, ((IEgressDecisions)policy).JudgeRequest("other.example", IPAddress.Parse("93.184.1.1"), 443, "GET", "/").Action);
    }

    [Fact]
    public void The_whole_internet_is_every_port_and_nothing_is_looked_into()
    {
        var policy = new CompiledPolicy(EgressPolicy.Internet);

        Assert.Equal(EgressOutcome.Allowed, policy.JudgeName("example.org").Outcome);
        Assert.Equal((EgressOutcome.Allowed, false), (policy.JudgeConnection("example.org", Public, 22).Outcome, policy.JudgeConnection("example.org", Public, 22).Intercept));
        Assert.Equal([new OpenRange(IPNetwork.Parse("0.0.0.0/0"), 1, 65535)], policy.Ranges);
    }

    [Fact]
    public void Presets_come_after_rules()
    {
        var policy = new CompiledPolicy(new EgressPolicy { Presets = ["pip", "github"], Rules = [new EgressRule { Action = EgressAction.Deny, Host = "gist.github.com" }] });

        Assert.Equal("preset pip", policy.JudgeName("pypi.org").By);
        Assert.Equal([22, 443], policy.JudgeName("github.com").Ports);
        Assert.Equal("rule 1", policy.JudgeName("gist.github.com").By);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeName("gist.github.com").Outcome);
    }

    [Fact]
    public void What_is_unmatched_can_be_audited()
    {
        var policy = new CompiledPolicy(new EgressPolicy { Unmatched = EgressAction.Audit, Rules = [new EgressRule { Action = EgressAction.Deny, Host = "evil.example" }] });

        Assert.Equal([80, 443], policy.JudgeName("example.org").Ports);
        Assert.True(policy.JudgeConnection("example.org", Public, 443).Intercept);
        Assert.Equal(EgressAction.Audit, policy.JudgeRequest("example.org", 443, "POST", "/").Action);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeName("evil.example").Outcome);
    }

    [Fact]
    public void What_is_unmatched_can_be_allowed_on_every_port()
    {
        var policy = new CompiledPolicy(new EgressPolicy { Unmatched = EgressAction.Allow, Rules = [new EgressRule { Action = EgressAction.Deny, Host = "*", Ports = [25] }, new EgressRule { Action = EgressAction.Deny, Host = "evil.example" }] });

        Assert.True(policy.JudgeName("example.org").AllPorts);
        Assert.Equal(EgressOutcome.Denied, policy.JudgeName("evil.example").Outcome);
        Assert.Equal("rule 1", policy.JudgeConnection("example.org", Public, 25).By);
        Assert.Equal(EgressOutcome.Allowed, policy.JudgeConnection("example.org", Public, 26).Outcome);
    }

    [Fact]
    public void A_policy_that_is_tried_out_lets_through_and_says_what_it_would_have_denied()
    {
        var policy = new CompiledPolicy(new EgressPolicy { Mode = EgressMode.DryRun, Rules = [new EgressRule { Host = "api.example.org", Methods = ["GET"] }] });

        Assert.Equal(EgressOutcome.WouldDeny, policy.JudgeName("other.example").Outcome);
        Assert.True(policy.JudgeName("other.example").AllPorts);
        Assert.Equal(EgressOutcome.WouldDeny, policy.JudgeConnection("other.example", Public, 5432).Outcome);
        Assert.False(policy.JudgeConnection("other.example", Public, 443).Intercept);
        Assert.True(policy.JudgeRequest("api.example.org", 443, "POST", "/").WouldDeny);
        Assert.False(policy.JudgeRequest("api.example.org", 443, "GET", "/").WouldDeny);
    }

    private static EgressPolicy Of(params EgressRule[] rules) => new() { Rules = rules };
}
