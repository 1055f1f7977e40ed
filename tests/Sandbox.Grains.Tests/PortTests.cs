using Sandbox.Abstractions;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>Connections into a guest, from the client to the host that has it.</summary>
public sealed class PortTests
{
    [Fact]
    public async Task Bytes_come_back_whole_and_a_connection_ends_with_its_session()
    {
        await using var cluster = await SandboxTestCluster.StartAsync();
        var session = await cluster.Client().StartSessionAsync();
        await using var stream = await session.OpenPortAsync(7);
        var sent = new byte[500_000];
        Random.Shared.NextBytes(sent);
        var got = new MemoryStream();
        var reading = stream.CopyToAsync(got);
        await stream.WriteAsync(sent);
        await stream.EndWritingAsync();
        await reading.WaitAsync(TimeSpan.FromSeconds(60));
        Assert.True(got.ToArray().AsSpan().SequenceEqual(sent));

        // A read that is given up loses nothing.
        await using var other = await session.OpenPortAsync(7);
        using (var soon = new CancellationTokenSource(50))
        {
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => other.ReadAsync(new byte[8], soon.Token).AsTask());
        }

        await other.WriteAsync(new byte[] { 1, 2, 3 });
        Assert.Equal(3, await other.ReadAsync(new byte[8]));

        var nobody = await Assert.ThrowsAsync<SandboxException>(() => session.OpenPortAsync(8));
        Assert.Equal((SandboxErrorCode.NotFound, "port"), (nobody.Code, nobody.Field));
        await session.TerminateAsync();
        await Assert.ThrowsAsync<IOException>(() => other.ReadAsync(new byte[8]).AsTask().WaitAsync(TimeSpan.FromSeconds(60)));
    }

    [Fact]
    public async Task A_connection_answers_its_tenant_only_and_there_are_only_so_many()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync();
        TenantContext.Set(cluster.Client().Tenant);
        var ports = cluster.Grains.GetGrain<ISessionPorts>(session.Id);
        var key = await ports.OpenPortAsync(7);
        TenantContext.Set("stranger");
        Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(() => cluster.Grains.GetGrain<IPortGrain>(key).ReadAsync(TimeSpan.Zero))).Code);
        Assert.Equal(SandboxErrorCode.NotFound, (await Assert.ThrowsAsync<SandboxException>(() => ports.OpenPortAsync(7))).Code);

        TenantContext.Set(cluster.Client().Tenant);
        for (var i = 1; i < IPortGrain.MaxConnections; i++)
        {
            await ports.OpenPortAsync(7);
        }

        Assert.Equal(SandboxErrorCode.ResourceExhausted, (await Assert.ThrowsAsync<SandboxException>(() => ports.OpenPortAsync(7))).Code);
        await cluster.Grains.GetGrain<IPortGrain>(key).CloseAsync();
        await ports.OpenPortAsync(7);
        Assert.True((await cluster.Grains.GetGrain<IPortGrain>(key).ReadAsync(TimeSpan.Zero)).Reset);
    }
}
