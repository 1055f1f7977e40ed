using Sandbox.Abstractions;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>What belongs to a tenant answers that tenant alone.</summary>
public sealed class TenantTests
{
    [Fact]
    public async Task Another_tenant_is_told_that_nothing_exists()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync();
        var execution = await session.StartCommandAsync(["echo", "secret"]);
        await execution.WaitForExitAsync();
        var info = await session.GetAsync();

        var other = cluster.Client("other").GetSession(session.Id);
        await NotFoundAsync(() => other.GetAsync());
        await NotFoundAsync(() => other.StartCommandAsync(["echo"]));
        await NotFoundAsync(() => other.Files.StatAsync("/"));
        await NotFoundAsync(() => other.TerminateAsync());
        TenantContext.Set("other");
        await NotFoundAsync(() => cluster.Grains.GetGrain<IOutputGrain>($"{info.HostId}/{session.Id}/{execution.Id}").ReadAsync(1, TimeSpan.Zero));
        await NotFoundAsync(() => cluster.Grains.GetGrain<ISessionIndexGrain>("acme/0").ListAsync());
        await NotFoundAsync(() => cluster.Grains.GetGrain<ITenantGrain>("acme").ListKeysAsync());
        Assert.Equal(SessionState.Running, (await session.GetAsync()).State);
    }

    [Fact]
    public async Task What_silos_use_among_themselves_answers_no_client()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync();
        var info = await session.GetAsync();
        foreach (var name in new[] { "acme", TenantContext.System })
        {
            TenantContext.Set(name);
            await DeniedAsync(() => cluster.Grains.GetGrain<IHostGrain>(info.HostId!).ForgetSessionAsync(session.Id));
            await DeniedAsync(() => cluster.Grains.GetGrain<IMicroVmGrain>($"{info.HostId}/{info.VmId}").StopAsync(info.Generation, "no"));
            await DeniedAsync(() => cluster.Grains.GetGrain<ISessionGrain>(session.Id).OnMicroVmEndedAsync(info.Generation, "no"));
        }

        Assert.Equal(SessionState.Running, (await session.GetAsync()).State);
    }

    [Fact]
    public async Task A_call_without_a_tenant_is_refused()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        RequestContext.Clear();
        var e = await Assert.ThrowsAsync<SandboxException>(() => cluster.Grains.GetGrain<ISessionGrain>(SandboxIds.NewSession()).CreateAsync(new CreateSessionRequest(), null));
        Assert.Equal(SandboxErrorCode.Unauthenticated, e.Code);
    }

    [Fact]
    public async Task Keys_are_made_verified_listed_and_revoked()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        TenantContext.Set("acme");
        var tenant = cluster.Grains.GetGrain<ITenantGrain>("acme");
        var made = await tenant.CreateKeyAsync("laptop");
        Assert.StartsWith("sbx_acme_", made.Key, StringComparison.Ordinal);
        RequestContext.Clear();
        Assert.True(await tenant.VerifyKeyAsync(made.Key));
        Assert.False(await tenant.VerifyKeyAsync(made.Key + "x"));
        TenantContext.Set("acme");
        Assert.Equal("laptop", Assert.Single(await tenant.ListKeysAsync()).Name);
        await tenant.RevokeKeyAsync(made.Info.Id);
        Assert.False(await tenant.VerifyKeyAsync(made.Key));
    }

    private static async Task NotFoundAsync(Func<Task> call) => Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(call)).Code);

    private static async Task DeniedAsync(Func<Task> call) => Assert.Equal(SandboxErrorCode.PermissionDenied, (await Assert.ThrowsAsync<SandboxException>(call)).Code);
}
