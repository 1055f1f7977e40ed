using System.Net;
using Sandbox.Abstractions;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Log;
using Sandbox.Egress.Policy;
using Sandbox.Egress.Secrets;
using Sandbox.Egress.Tests.Audit;
using Xunit;

namespace Sandbox.Egress.Tests;

public sealed class ProxyContextFactoryTests
{
    private static readonly SecretBinding Key = new("openai", Placeholders.New("openai"), "the-value", ["api.openai.com"], ["authorization"]);

    [Fact]
    public async Task Settings_become_what_a_proxy_decides_by()
    {
        await using var log = new EgressLog(new EgressLogOptions());
        var names = SessionNames.Over(new DnsClientResolver([new IPEndPoint(IPAddress.Loopback, 9)])).Names;
        var settings = new EgressSettings { Policy = new EgressPolicy { Presets = ["openai"], Secrets = ["openai"] }, Secrets = [Key, Key with { Name = "other", Hosts = ["other.example"] }] };

        var context = new ProxyContextFactory().Create("t", "s", settings, names, log, new AuditMemory());

        Assert.IsType<CompiledPolicy>(context.Decisions);
        Assert.Equal(EgressOutcome.Allowed, context.Decisions.JudgeName("api.openai.com").Outcome);
        Assert.True(context.Secrets.Concerns("api.openai.com"));
        Assert.False(context.Secrets.Concerns("other.example"));
        Assert.Equal("auditor", (await context.Auditor.JudgeAsync(Requests.Post("x"), CancellationToken.None)).By);
    }

    [Fact]
    public async Task A_secret_that_is_not_there_is_named()
    {
        await using var log = new EgressLog(new EgressLogOptions());
        var names = SessionNames.Over(new DnsClientResolver([new IPEndPoint(IPAddress.Loopback, 9)])).Names;

        var error = Assert.Throws<SandboxException>(() => new ProxyContextFactory().Create("t", "s", new EgressSettings { Policy = new EgressPolicy { Secrets = ["openai", "missing"] }, Secrets = [Key] }, names, log, new AuditMemory()));

        Assert.Equal("egress.secrets[1]", error.Field);
    }
}
