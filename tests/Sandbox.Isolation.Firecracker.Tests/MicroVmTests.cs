using Sandbox.Isolation.Firecracker.Tests.Fixture;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>Machines from their start to their end, through the double, with a real agent behind its socket device.</summary>
public sealed class MicroVmTests(DoubleFixture fixture) : IClassFixture<DoubleFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_machine_boots_runs_a_command_and_leaves_nothing()
    {
        var spec = fixture.Spec();
        await using (var vm = await fixture.Backend.StartAsync(spec, Ct))
        {
            Assert.Equal("boot", vm.StartReport.Method);
            Assert.Equal("kvm", vm.StartReport.Accelerator);
            Assert.Equal("42\n", (await GuestRuns.ShellAsync(vm, "echo $((6*7))", cancellationToken: Ct)).Stdout);
            Assert.False(vm.Exited.IsCompleted);
        }

        Assert.Equal(
            ["PUT /machine-config", "PUT /boot-source", "PUT /drives/root", "PUT /drives/data", "PUT /vsock", "PUT /entropy", "PUT /actions"], fixture.CallsOf(spec.Owner.VmId));
        Assert.True(File.Exists(spec.DiskPath));
        fixture.RequireNothingLeft();
    }
}
