using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Null.Tests.Support;
using Xunit;
using static Sandbox.Isolation.Null.Tests.Support.NullHost;

namespace Sandbox.Isolation.Null.Tests;

/// <summary>What a machine holds on its host: the truth that crash tests go by.</summary>
public sealed class HostTests : IDisposable
{
    private readonly NullHost _host = new();

    public void Dispose() => _host.Dispose();

    [Fact]
    public async Task It_says_that_it_isolates_nothing()
    {
        Assert.False(_host.Backend.Capabilities.TakesUntrusted);
        Assert.Equal([NullBackend.Warning], (await _host.Backend.ProbeAsync(Token)).Warnings);
    }

    [Fact]
    public async Task A_second_machine_of_a_session_fails_and_is_written_down()
    {
        var another = _host.Another();
        await using (await _host.StartAsync())
        {
            await Assert.ThrowsAsync<IsolationException>(() => _host.StartAsync());
            await Assert.ThrowsAsync<IsolationException>(() => another.StartAsync(_host.Spec(), Token));
            Assert.Equal(2, (await File.ReadAllLinesAsync(_host.Violations, Token)).Length);
            Assert.Single(_host.Backend.Live);
            await using var other = await another.StartAsync(_host.Spec("s2"), Token);
        }

        await using var next = await another.StartAsync(_host.Spec(), Token);
        Assert.Equal(2, (await File.ReadAllLinesAsync(_host.Violations, Token)).Length);
    }

    [Fact]
    public async Task A_machine_of_the_pool_lives_for_a_session_once_it_is_claimed()
    {
        var spec = _host.Spec("pool") with { Owner = new MicroVmOwner("pool-1", "", 0) };
        Assert.NotNull(await _host.Backend.FindGoldenAsync(_host.Root, new TemplateSizes(), Token));
        await using var vm = (await _host.Backend.PrepareAsync(spec, Token))!;
        Assert.False(Directory.Exists(_host.LiveDirectory));
        var disk = Path.Combine(_host.Root, "claimed.img");

        await vm.ClaimAsync(new MicroVmClaim("s1", 3, "name", disk), Token);

        Assert.Equal((new MicroVmOwner("pool-1", "s1", 3), "pool"), (vm.Owner, vm.StartReport.Method));
        Assert.False(File.Exists(spec.DiskPath));
        await WriteFileAsync(vm, "a", "a");
        Assert.NotEqual(0, new FileInfo(disk).Length);
        await Assert.ThrowsAsync<IsolationException>(() => _host.StartAsync());
        Assert.True(File.Exists(_host.Violations));
    }

    [Fact]
    public async Task What_no_lease_names_is_reaped()
    {
        var kept = await _host.StartAsync("kept");
        var leak = await _host.StartAsync("leak");
        var crashed = new MicroVmOwner("crashed", "s9", 4);
        var record = Path.Combine(_host.Root, "run", "host", "vm-crashed");
        Directory.CreateDirectory(record);
        await File.WriteAllTextAsync(Path.Combine(record, "owner.json"), """{"VmId":"crashed","SessionId":"s9","Generation":4}""", Token);

        var reaped = await _host.Backend.ReapAsync(o => o.SessionId == "kept", Token);

        Assert.Equal([leak.Owner, crashed], reaped.Select(r => r.Owner));
        Assert.True(leak.Exited.IsCompleted);
        Assert.Equal(["vm-" + kept.Owner.VmId], Directory.GetDirectories(Path.Combine(_host.Root, "run", "host")).Select(Path.GetFileName));
        await kept.DisposeAsync();
        Assert.Empty(Directory.GetDirectories(Path.Combine(_host.Root, "run", "host")));
    }

    [Fact]
    public void The_image_is_made_once()
    {
        var root = Path.Combine(_host.Root, "images");

        var directory = NullImages.Ensure(root);
        Assert.Equal(directory, NullImages.Ensure(root));

        Assert.Equal(["null"], new ImageStore(root).Templates);
        Assert.Equal(["python", "bash"], TemplateImage.Load(directory).Languages);
    }
}
