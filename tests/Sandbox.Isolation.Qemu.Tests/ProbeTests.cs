using Microsoft.Extensions.Logging.Abstractions;
using Xunit;

namespace Sandbox.Isolation.Qemu.Tests;

public sealed class ProbeTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    [Fact]
    public async Task KVM_is_believed_only_after_a_guest_has_booted_under_it_and_the_verdict_is_kept()
    {
        var options = fixture.Options with { Accelerator = "auto", ProbeImage = () => fixture.Image };
        await using var backend = new QemuBackend(options, NullLogger<QemuBackend>.Instance);
        var verdict = await backend.ProbeAsync(TestContext.Current.CancellationToken);

        // Whatever this machine has: usable either way, the reason says how it was found out, and emulation is announced.
        Assert.True(verdict.Usable);
        Assert.StartsWith("QEMU ", verdict.Version, StringComparison.Ordinal);
        Assert.Contains("KVM", verdict.Reason, StringComparison.Ordinal);
        Assert.Equal(verdict.Accelerator == "tcg", verdict.Warnings.Any(w => w.Contains("emulation", StringComparison.Ordinal)));

        if (File.Exists("/dev/kvm"))
        {
            Assert.True(File.Exists(Path.Combine(options.CacheDirectory, "kvm-verdict.json")));
        }

        await using var another = new QemuBackend(options, NullLogger<QemuBackend>.Instance);
        var again = await another.ProbeAsync(TestContext.Current.CancellationToken);
        Assert.Equal((verdict.Accelerator, verdict.Reason), (again.Accelerator, again.Reason));
        await backend.DisposeAsync();
        await another.DisposeAsync();
        Assert.Empty(Directory.GetDirectories(Path.Combine(options.RuntimeRoot, options.HostId)));
    }

    [Fact]
    public async Task A_missing_QEMU_is_said_with_what_to_install()
    {
        await using var backend = new QemuBackend(fixture.Options with { Binary = "/nonexistent/qemu" }, NullLogger<QemuBackend>.Instance);
        var verdict = await backend.ProbeAsync(TestContext.Current.CancellationToken);

        Assert.False(verdict.Usable);
        Assert.Contains("apt-get install", verdict.Reason, StringComparison.Ordinal);
    }
}
