using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Leases;
using Sandbox.Grains.Tests.Support;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>At most one live microVM for a session, whatever calls arrive late.</summary>
public sealed class FencingTests
{
    [Fact]
    public void A_ledger_refuses_what_is_stale_also_after_a_restart()
    {
        var path = Path.Combine(Path.GetTempPath(), "grains-ledger-" + Guid.NewGuid().ToString("N"));
        var (first, second) = (SandboxIds.NewSession(), SandboxIds.NewSession());
        try
        {
            using (var ledger = new GenerationLedger(path, TimeProvider.System))
            {
                ledger.Raise(first, 3);
                ledger.Raise(first, 3);
                Assert.Throws<SandboxException>(() => ledger.Raise(first, 2));
                ledger.Raise(second, 1);
                ledger.Forget(second);
            }

            File.AppendAllText(path, first + " 9");
            using (var ledger = new GenerationLedger(path, TimeProvider.System))
            {
                Assert.Equal(SandboxErrorCode.Conflict, Assert.Throws<SandboxException>(() => ledger.Raise(first, 2)).Code);
                ledger.Raise(first, 4);
                Assert.Throws<SandboxException>(() => ledger.Raise(second, 100));
            }
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public async Task A_microvm_of_a_stale_generation_is_killed_and_a_stale_start_is_refused()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync();
        var info = await session.GetAsync();
        var old = cluster.BackendOf(info).Of(session.Id);
        var runtime = cluster.RuntimeOf(0);

        Assert.True(await runtime.TryReserveAsync(new HostLease(session.Id, 7, "vm-x", 1, 512)));
        Assert.True(old.Exited.IsCompleted);
        var start = new MicroVmStart
        {
            SessionId = session.Id,
            Tenant = "acme",
            Generation = 6,
            Template = "python",
            TemplateVersion = "0123456789abcdef",
            Backend = "test",
            Vcpus = 1,
            MemoryMiB = 512,
            DiskMiB = 64,
        };
        Assert.Equal(SandboxErrorCode.Conflict, (await Assert.ThrowsAsync<SandboxException>(() => runtime.StartMachineAsync("vm-y", start))).Code);
        Assert.Equal(1, cluster.BackendOf(info).MostForOneSession);
    }

    [Fact]
    public async Task A_session_that_is_gone_from_a_host_cannot_be_started_there_again()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var session = await cluster.Client().StartSessionAsync();
        var info = await session.GetAsync();
        await session.TerminateAsync();

        var late = new HostLease(session.Id, info.Generation + 1, "vm-late", 1, 512);
        await Assert.ThrowsAsync<SandboxException>(() => cluster.RuntimeOf(0).TryReserveAsync(late));
    }

    [Fact]
    public async Task Ending_a_session_while_it_starts_leaves_no_machine()
    {
        await using var cluster = await SandboxTestCluster.StartAsync(silos: 1);
        var entered = new TaskCompletionSource();
        var backend = cluster.Backends["host-a"];
        backend.BeforeStart = async (_, ct) =>
        {
            entered.TrySetResult();
            await Task.Delay(Timeout.Infinite, ct);
        };
        var session = await cluster.Client().CreateSessionAsync();
        await entered.Task.WaitAsync(TimeSpan.FromSeconds(60));

        var ended = await session.TerminateAsync();

        Assert.Equal(SessionState.Terminated, ended.State);
        Assert.Empty(backend.Live);
        Assert.Equal(0, cluster.RuntimeOf(0).Report().MemoryLeasedMiB);
    }
}
