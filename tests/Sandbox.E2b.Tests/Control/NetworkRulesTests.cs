using Sandbox.Abstractions;
using Sandbox.E2b.Control;
using Xunit;

namespace Sandbox.E2b.Tests.Control;

/// <summary>What E2B's words for the network come to.</summary>
public sealed class NetworkRulesTests
{
    [Fact]
    public void Who_says_nothing_gets_the_tenants_default()
    {
        Assert.Null(NetworkRules.From(null, null));
        Assert.Null(NetworkRules.From(new NetworkBody { AllowPublicTraffic = true }, null));
    }

    [Fact]
    public void Internet_access_is_every_public_address_or_nothing()
    {
        Assert.Equal(Rules(EgressPolicy.Internet), Rules(NetworkRules.From(null, true)!));
        Assert.True(NetworkRules.From(null, false)!.ReachesNothing());
        Assert.True(NetworkRules.From(new NetworkBody { DenyOut = ["0.0.0.0/0"] }, null)!.ReachesNothing());
    }

    [Fact]
    public void What_is_allowed_goes_before_what_is_denied_and_only_denying_leaves_the_rest_open()
    {
        var only = NetworkRules.From(new NetworkBody { AllowOut = ["example.com", "*.example.org", "8.8.8.8", "1.1.1.0/24"], DenyOut = ["0.0.0.0/0"] }, null)!;
        Assert.Equal(["Allow example.com", "Allow *.example.org", "Allow 8.8.8.8/32", "Allow 1.1.1.0/24"], Rules(only));

        var most = NetworkRules.From(new NetworkBody { DenyOut = ["8.8.8.8"] }, null)!;
        Assert.Equal(["Deny 8.8.8.8/32", .. Rules(EgressPolicy.Internet)], Rules(most));

        var some = NetworkRules.From(new NetworkBody { AllowOut = ["8.8.8.8"], DenyOut = ["8.8.8.0/24"] }, true)!;
        Assert.Equal(["Allow 8.8.8.8/32", "Deny 8.8.8.0/24", .. Rules(EgressPolicy.Internet)], Rules(some));
    }

    [Fact]
    public void What_is_not_offered_or_no_address_is_refused_by_its_name()
    {
        Assert.Equal("network.denyOut", Assert.Throws<SandboxException>(() => NetworkRules.From(new NetworkBody { DenyOut = ["example.com"] }, null)).Field);
        Assert.Equal("network.maskRequestHost", Assert.Throws<SandboxException>(() => NetworkRules.From(new NetworkBody { MaskRequestHost = "a" }, null)).Field);
    }

    private static string[] Rules(EgressPolicy policy) => [.. policy.Rules.Select(r => $"{r.Action} {r.Host ?? r.Cidr}")];
}
