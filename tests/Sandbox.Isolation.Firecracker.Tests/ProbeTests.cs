using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Tests.Fixture;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>What the backend finds out about a host, and how plainly it says so.</summary>
public sealed class ProbeTests(DoubleFixture fixture) : IClassFixture<DoubleFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_host_without_Firecracker_is_told_so_at_once()
    {
        var folder = Directory.CreateTempSubdirectory("none-").FullName;
        var began = Stopwatch.GetTimestamp();
        var backend = fixture.Make(new FirecrackerOptions { HostId = fixture.Options.HostId, CacheDirectory = folder, Binary = Path.Combine(folder, "firecracker"), RuntimeRoot = folder });

        var verdict = await backend.ProbeAsync(Ct);

        Assert.False(verdict.Usable);
        Assert.Contains($"there is no {folder}/firecracker", verdict.Reason, StringComparison.Ordinal);
        Assert.Contains(verdict.Warnings, w => w.Contains("not verified on hardware", StringComparison.Ordinal));
        Assert.True(Stopwatch.GetElapsedTime(began) < TimeSpan.FromSeconds(2));
        Assert.Contains("not usable on this host: there is no", (await Assert.ThrowsAsync<IsolationException>(() => backend.StartAsync(fixture.Spec(), Ct))).Message, StringComparison.Ordinal);
        Assert.Null(await backend.PrepareAsync(fixture.Spec(), Ct));
        Assert.Null(await backend.FindGoldenAsync(fixture.Image, DoubleFixture.Sizes, Ct));
        Assert.Empty(await backend.ReapAsync(_ => false, Ct));
        Directory.Delete(folder, recursive: true);
    }

    [Theory]
    [InlineData("old", "1.7.0 is too old")]
    [InlineData("strange", "says 'Hello', which is no version")]
    public async Task A_version_that_is_not_known_to_fit_is_not_tried(string fault, string said)
    {
        fixture.Break(fault);
        var verdict = await fixture.Make(fixture.Options).ProbeAsync(Ct);
        Assert.False(verdict.Usable);
        Assert.Contains(said, verdict.Reason, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Firecracker v1.8.0", null, false)]
    [InlineData("Firecracker v1.14.2-dev\n\nSupported snapshot data format versions: v8.0.0", null, false)]
    [InlineData("Firecracker v1.15.0", null, true)]
    [InlineData("Firecracker v0.25.0", "too old", false)]
    [InlineData("Firecracker v2.0.0", "another major version", true)]
    public void A_version_is_read_from_what_the_program_prints(string text, string? problem, bool newName)
    {
        var version = FirecrackerVersion.Parse(text)!;
        Assert.Equal(problem is null, version.Problem is null);
        Assert.Contains(problem ?? "", version.Problem ?? "", StringComparison.Ordinal);
        Assert.Equal(newName, version.TracksByNewName);
    }

    [Fact]
    public async Task A_host_without_KVM_or_an_image_or_a_jailer_is_told_which()
    {
        fixture.Break();
        foreach (var (options, said) in ((FirecrackerOptions, string)[])
            [
                (fixture.Options with { KvmDevice = "/dev/no-kvm" }, "this host has no /dev/no-kvm"),
                (fixture.Options with { ProbeImage = () => null, CacheDirectory = fixture.Folder + "/other" }, "no guest image yet"),
                (fixture.Options with { Jailer = "/usr/bin/no-jailer" }, DoubleFixture.IsRoot ? "no /usr/bin/no-jailer" : "booted"),
            ])
        {
            Assert.Contains(said, (await fixture.Make(options).ProbeAsync(Ct)).Reason, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task The_guest_is_booted_once_and_the_verdict_is_kept()
    {
        fixture.Break();
        var options = fixture.Options with { VerdictDirectory = Path.Combine(fixture.Folder, "verdict") };
        var good = await fixture.Make(options).ProbeAsync(Ct);
        Assert.True(good.Usable, good.Reason);
        Assert.Equal(("kvm", "Firecracker 1.17.0"), (good.Accelerator, good.Version));

        // It would fail now, but is not tried again.
        fixture.Break("refuse PUT /actions");
        Assert.True((await fixture.Make(options).ProbeAsync(Ct)).Usable);
        var bad = await fixture.Make(options with { VerdictDirectory = Path.Combine(fixture.Folder, "other") }).ProbeAsync(Ct);
        Assert.False(bad.Usable);
        Assert.Contains("the guest does not boot: ", bad.Reason, StringComparison.Ordinal);
        Assert.Contains("PUT /actions", bad.Reason, StringComparison.Ordinal);
        fixture.RequireNothingLeft();
    }

    [Fact]
    public async Task This_host_gets_a_verdict_with_a_reason()
    {
        var verdict = await new FirecrackerBackend(new FirecrackerOptions { HostId = fixture.Options.HostId, CacheDirectory = fixture.Folder + "/real" }, NullLogger<FirecrackerBackend>.Instance).ProbeAsync(Ct);
        Assert.NotEmpty(verdict.Reason);
        Assert.Equal(verdict.Usable, verdict.Accelerator == "kvm");
    }
}
