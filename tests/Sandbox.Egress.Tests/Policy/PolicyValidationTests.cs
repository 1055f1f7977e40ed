using Sandbox.Abstractions;
using Sandbox.Egress.Policy;
using Xunit;

namespace Sandbox.Egress.Tests.Policy;

public sealed class PolicyValidationTests
{
    private static readonly EgressRule Good = new() { Host = "pypi.org" };

    public static TheoryData<string, EgressPolicy, string, string> Mistakes => new()
    {
        { "no host", Of(new EgressRule()), "egress.rules[0]", "neither a host nor a cidr" },
        { "both", Of(Good with { Cidr = "1.1.1.1" }), "egress.rules[0]", "make two rules" },
        { "second rule", Of(Good, Good with { Host = "https://pypi.org" }), "egress.rules[1].host", "Rule 2: host 'https://pypi.org' is an address of a page" },
        { "port in host", Of(Good with { Host = "pypi.org:443" }), "egress.rules[0].host", "give ports in 'ports'" },
        { "inner star", Of(Good with { Host = "a.*.org" }), "egress.rules[0].host", "*.pypi.org" },
        { "address as host", Of(Good with { Host = "1.2.3.4" }), "egress.rules[0].host", "'cidr'" },
        { "idn", Of(Good with { Host = "bücher.de" }), "egress.rules[0].host", "xn--" },
        { "empty label", Of(Good with { Host = "a..b" }), "egress.rules[0].host", "empty" },
        { "host bits", Of(new EgressRule { Cidr = "1.2.3.4/24" }), "egress.rules[0].cidr", "did you mean 1.2.3.0/24" },
        { "octal", Of(new EgressRule { Cidr = "010.1.1.1" }), "egress.rules[0].cidr", "leading zeros" },
        { "prefix", Of(new EgressRule { Cidr = "1.1.1.1/33" }), "egress.rules[0].cidr", "0 to 32" },
        { "private", Of(new EgressRule { Cidr = "10.1.0.0/16" }), "egress.rules[0].cidr", "no public address" },
        { "metadata", Of(new EgressRule { Cidr = "169.254.169.254" }), "egress.rules[0].cidr", "no public address" },
        { "port 0", Of(Good with { Ports = [443, 0] }), "egress.rules[0].ports[1]", "1 to 65535" },
        { "method", Of(Good with { Methods = ["get"] }), "egress.rules[0].methods[0]", "capital" },
        { "connect", Of(Good with { Methods = ["CONNECT"] }), "egress.rules[0].methods[0]", "CONNECT" },
        { "path", Of(Good with { Paths = ["simple"] }), "egress.rules[0].paths[0]", "begin with '/'" },
        { "path star", Of(Good with { Paths = ["/a*b"] }), "egress.rules[0].paths[0]", "before its end" },
        { "path encoded", Of(Good with { Paths = ["/a%2fb"] }), "egress.rules[0].paths[0]", "encoded slash" },
        { "preset", new EgressPolicy { Presets = ["pypi"] }, "egress.presets[0]", "there are: alpine," },
        { "preset twice", new EgressPolicy { Presets = ["pip", "pip"] }, "egress.presets", "twice" },
        { "secret", new EgressPolicy { Secrets = ["My_Key"] }, "egress.secrets[0]", "small letter" },
        { "limit", new EgressPolicy { Limits = new EgressLimits { Connections = 0 } }, "egress.limits.connections", "1 to 4096" },
        { "otherwise", new EgressPolicy { Auditing = new EgressAuditing { Otherwise = EgressAction.Audit } }, "egress.auditing.otherwise", "Allow or Deny" },
        { "mode", new EgressPolicy { Mode = (EgressMode)7 }, "egress.mode", "DryRun" },
        { "null list", new EgressPolicy { Rules = null! }, "egress.rules", "null" },
        { "many rules", new EgressPolicy { Rules = [.. Enumerable.Repeat(Good, 257)] }, "egress.rules", "257" },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void A_mistake_is_named_with_its_field_and_what_is_allowed(string what, EgressPolicy policy, string field, string says)
    {
        var error = Assert.Throws<SandboxException>(() => PolicyValidation.Validate(policy));

        Assert.Equal(SandboxErrorCode.InvalidArgument, error.Code);
        Assert.True(error.Field == field, $"{what}: {error.Field}");
        Assert.Contains(says, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_right_passes()
    {
        PolicyValidation.Validate(EgressPolicy.Nothing);
        PolicyValidation.Validate(EgressPolicy.Internet);
        PolicyValidation.Validate(new EgressPolicy { Presets = [.. Presets.All.Take(32).Select(p => p.Name)] });
        PolicyValidation.Validate(Of(
            Good with { Host = "*.Files.PythonHosted.org.", Ports = [8443], Methods = ["GET"], Paths = ["/simple/*", "/a b"] },
            new EgressRule { Action = EgressAction.Deny, Cidr = "10.0.0.0/8" }));
    }

    [Fact]
    public void Every_preset_is_made_of_good_rules()
    {
        Assert.Equal(Presets.All.Select(p => p.Name).Order(StringComparer.Ordinal), Presets.All.Select(p => p.Name));
        Assert.All(Presets.All.SelectMany(p => p.Hosts), h =>
        {
            PolicyValidation.Validate(Of(new EgressRule { Host = h.Host, Ports = h.Ports }));
            Assert.False(HostPattern.Parse(h.Host).IsAny);
            Assert.NotEmpty(h.Ports);
        });
    }

    private static EgressPolicy Of(params EgressRule[] rules) => new() { Rules = rules };
}
