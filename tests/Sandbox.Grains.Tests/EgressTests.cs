using Sandbox.Abstractions;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>A session's policy, its tenant's default and secrets, as the actors keep them. (What they do to traffic is tested where there is a network.)</summary>
public sealed class EgressTests
{
    private static readonly CreateSessionRequest Null = new() { Template = "null", Untrusted = false };
    private static readonly EgressPolicy Pip = new() { Presets = ["pip"] };

    [Fact]
    public async Task A_policy_survives_a_pause_and_a_fork_and_changes_by_version()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null with { Egress = Pip });

        var first = await session.GetEgressAsync();
        Assert.Equal(["pip"], first.Policy.Presets);
        Assert.False(first.Network);
        Assert.Contains("no network", string.Join(' ', (await session.GetAsync()).Warnings), StringComparison.Ordinal);

        await session.PauseAsync();
        Assert.Equal(["pip"], (await session.GetEgressAsync()).Policy.Presets);
        var changed = await session.SetEgressAsync(new EgressPolicy { Presets = ["npm"] });
        Assert.Equal(first.Version + 1, changed.Version);
        Assert.Equal(SessionState.Paused, (await session.GetAsync()).State);
        await session.ResumeAsync();
        Assert.Equal(["npm"], (await session.GetEgressAsync()).Policy.Presets);
        Assert.Equal(["npm"], (await (await session.ForkAsync())[0].GetEgressAsync()).Policy.Presets);
    }

    [Fact]
    public async Task A_running_session_without_a_network_is_not_told_that_it_has_one()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);

        var e = await Assert.ThrowsAsync<SandboxException>(() => session.SetEgressAsync(Pip));
        Assert.Equal(SandboxErrorCode.Unsupported, e.Code);
        Assert.Equal(1, (await session.GetEgressAsync()).Version);
        Assert.Equal(2, (await session.SetEgressAsync(EgressPolicy.Nothing)).Version);

        // Who needs one is not given a session without.
        var refused = await Assert.ThrowsAsync<SandboxException>(() => cluster.Client().StartSessionAsync(Null with { Needs = new SessionNeeds { Network = true } }));
        Assert.Equal(SandboxErrorCode.Unsupported, refused.Code);
    }

    [Fact]
    public async Task The_tenants_default_is_for_sessions_that_name_none_and_for_that_tenant()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 2);
        TenantContext.Set("acme");
        await cluster.Grains.GetGrain<ITenantEgressGrain>("acme").SetDefaultAsync(Pip);

        Assert.Equal(["pip"], (await (await cluster.Client().StartSessionAsync(Null)).GetEgressAsync()).Policy.Presets);
        Assert.Empty((await (await cluster.Client().StartSessionAsync(Null with { Egress = EgressPolicy.Nothing })).GetEgressAsync()).Policy.Presets);
        Assert.Empty((await (await cluster.Client("other").StartSessionAsync(Null)).GetEgressAsync()).Policy.Presets);
    }

    [Fact]
    public async Task A_secret_goes_in_and_does_not_come_out()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        TenantContext.Set("acme");
        var mine = cluster.Grains.GetGrain<ITenantEgressGrain>("acme");
        var stored = await mine.PutSecretAsync(new SecretSpec { Name = "api-key", Value = "the-very-secret-value", Hosts = ["api.example.com"] });
        Assert.Equal(("API_KEY", "authorization"), (stored.Variable, stored.Headers.Single()));
        Assert.DoesNotContain("the-very-secret-value", string.Join(' ', cluster.Storage.AllText()), StringComparison.Ordinal);

        var session = await cluster.Client().StartSessionAsync(Null with { Egress = Pip with { Secrets = ["api-key"] } });
        var placeholder = Assert.Single((await session.GetEgressAsync()).Placeholders);
        Assert.StartsWith("sbxs_", placeholder.Placeholder, StringComparison.Ordinal);

        // The same in a fork, whose memory has it; another in another session.
        Assert.Equal(placeholder, Assert.Single((await (await session.ForkAsync())[0].GetEgressAsync()).Placeholders));
        var other = await cluster.Client().StartSessionAsync(Null with { Egress = Pip with { Secrets = ["api-key"] } });
        Assert.NotEqual(placeholder, Assert.Single((await other.GetEgressAsync()).Placeholders));

        var unknown = await Assert.ThrowsAsync<SandboxException>(() => cluster.Client().StartSessionAsync(Null with { Egress = Pip with { Secrets = ["no-such"] } }));
        Assert.Contains("api-key", unknown.Message, StringComparison.Ordinal);
        var another = await Assert.ThrowsAsync<SandboxException>(() => cluster.Client("other").StartSessionAsync(Null with { Egress = Pip with { Secrets = ["api-key"] } }));
        Assert.Equal(SandboxErrorCode.InvalidArgument, another.Code);
        Assert.DoesNotContain("api-key,", another.Message, StringComparison.Ordinal);

        TenantContext.Set("acme");
        await mine.DeleteSecretAsync("api-key");
        Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(() => mine.DeleteSecretAsync("api-key"))).Code);
    }

    [Fact]
    public async Task Another_tenant_and_a_client_learn_nothing()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null with { Egress = Pip });
        var other = cluster.Client("other").GetSession(session.Id);
        Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(() => other.GetEgressAsync())).Code);
        Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(() => other.SetEgressAsync(EgressPolicy.Nothing))).Code);
        TenantContext.Set("other");
        Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(() => cluster.Grains.GetGrain<ITenantEgressGrain>("acme").ListSecretsAsync())).Code);
        foreach (var name in new[] { "acme", TenantContext.System })
        {
            TenantContext.Set(name);
            Assert.Equal(SandboxErrorCode.PermissionDenied, (await Assert.ThrowsAsync<SandboxException>(() => cluster.Grains.GetGrain<ITenantEgressGrain>("acme").GetMaterialAsync([]))).Code);
        }
    }

    [Fact]
    public async Task An_owners_answer_is_kept_and_rubbish_is_refused()
    {
        await using var cluster = await SandboxTestCluster.StartNullAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync(Null);

        await session.DecideEgressAsync(new EgressDecision("api.example.com", "POST", "/v1/*", Allow: true));
        var kept = await session.DecideEgressAsync(new EgressDecision("api.example.com", "POST", "/v1/*", Allow: false));
        Assert.Equal(new EgressDecision("api.example.com", "POST", "/v1/*", Allow: false), Assert.Single(kept.Decisions));
        foreach (var bad in new[] { new EgressDecision("*", null, null, true), new EgressDecision("a b", null, null, true), new EgressDecision("a.example.com", "get it", null, true), new EgressDecision("a.example.com", null, "no/slash", true) })
        {
            Assert.Equal(SandboxErrorCode.InvalidArgument, (await Assert.ThrowsAsync<SandboxException>(() => session.DecideEgressAsync(bad))).Code);
        }
    }
}
