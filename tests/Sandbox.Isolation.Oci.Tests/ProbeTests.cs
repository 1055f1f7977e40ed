using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>Verdicts: good ones from a container that ran, bad ones with what to do.</summary>
public sealed class ProbeTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(OciTier.HostKernel, "runc")]
    [InlineData(OciTier.Gvisor, "runsc")]
    public async Task A_runtime_is_believed_once_a_container_has_run_under_it(OciTier tier, string runtime)
    {
        var verdict = await fixture.Of(tier).ProbeAsync(Ct);
        Assert.True(verdict.Usable, verdict.Reason);
        Assert.Equal(runtime, verdict.Accelerator);
        Assert.StartsWith(runtime + " ", verdict.Version, StringComparison.Ordinal);
        Assert.Contains("a container ran", verdict.Reason, StringComparison.Ordinal);
        Assert.Equal(tier == OciTier.HostKernel, verdict.Warnings.Any(w => w.Contains("host's own kernel", StringComparison.Ordinal)));
        Assert.Same(verdict, await fixture.Of(tier).ProbeAsync(Ct));
        Assert.Empty(Directory.GetDirectories(fixture.HostRoot(tier), "vm-*"));
    }

    [Fact]
    public async Task Where_runc_is_missing_crun_takes_its_place()
    {
        var backend = fixture.Make(OciTier.HostKernel, o => o with { Runtimes = ["/nowhere/runc", "crun"] });
        var verdict = await backend.ProbeAsync(Ct);
        Assert.True(verdict.Usable, verdict.Reason);
        Assert.Equal("crun", verdict.Accelerator);
        Assert.Contains("there is no /nowhere/runc; apt-get install runc", verdict.Reason, StringComparison.Ordinal);
        await using var vm = await backend.StartAsync(fixture.Spec(), Ct);
        Assert.Equal("user\n2\n", (await ShellAsync(vm, "id -un; grep Seccomp: /proc/self/status | cut -f2")).Stdout);
        await using var pooled = (await backend.PrepareAsync(fixture.Spec(), Ct))!;
    }

    [Fact]
    public async Task What_is_missing_is_said_with_what_to_install()
    {
        var backend = fixture.Make(OciTier.Gvisor, o => o with { Runtimes = ["/nowhere/runsc"] });
        var verdict = await backend.ProbeAsync(Ct);
        Assert.False(verdict.Usable);
        Assert.Contains("apt-get install runsc", verdict.Reason, StringComparison.Ordinal);
        var refused = await Assert.ThrowsAsync<Sandbox.Isolation.Backends.IsolationException>(() => backend.StartAsync(fixture.Spec(), Ct));
        Assert.Contains("apt-get install runsc", refused.Message, StringComparison.Ordinal);
        Assert.Null(await backend.PrepareAsync(fixture.Spec(), Ct));
    }

    [Fact]
    public async Task Without_an_image_there_is_no_verdict_yet()
    {
        string? image = null;
        var backend = fixture.Make(OciTier.HostKernel, o => o with { ProbeImage = () => image });
        Assert.Contains("sandbox image build", (await backend.ProbeAsync(Ct)).Reason, StringComparison.Ordinal);
        image = fixture.Image;
        Assert.True((await backend.ProbeAsync(Ct)).Usable);
    }

    [Theory]
    [InlineData("echo 'runc version 9'; exit 0", "exit 3", "exit code 3")]
    [InlineData("echo 'runc version 9'; exit 0", "sleep 60", "did not answer within")]
    [InlineData("sleep 60", "", "did not end within")]
    [InlineData("exit 1", "", "exit code 1")]
    public async Task A_runtime_that_fails_or_hangs_is_given_up_and_leaves_nothing(string version, string other, string reason)
    {
        var program = Path.Combine(fixture.Options.CacheDirectory, $"runc-{Guid.NewGuid():N}");
        Directory.CreateDirectory(fixture.Options.CacheDirectory);
        await File.WriteAllTextAsync(program, $"#!/bin/sh\nif [ \"$1\" = --version ]; then {version}; fi\necho complaint >&2\n{other}\n", Ct);
        File.SetUnixFileMode(program, (UnixFileMode)0b111_101_101);
        var backend = fixture.Make(OciTier.HostKernel, o => o with { Runtimes = [program], ProbeDeadline = TimeSpan.FromSeconds(1) });
        var verdict = await backend.ProbeAsync(Ct);
        Assert.False(verdict.Usable);
        Assert.Contains(reason, verdict.Reason, StringComparison.Ordinal);
        Assert.True(!Directory.Exists(fixture.HostRoot(OciTier.HostKernel)) || !Directory.EnumerateDirectories(fixture.HostRoot(OciTier.HostKernel), "vm-*").Any());
    }
}
