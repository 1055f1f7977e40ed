using System.Diagnostics;
using System.Net;
using Sandbox.Isolation.Network;
using Xunit;

namespace Sandbox.Isolation.Tests.Network;

/// <summary>Networks made in advance, and what a crash leaves.</summary>
public sealed class GuestNetworkPoolTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(GuestInterfaceKind.Tap)]
    [InlineData(GuestInterfaceKind.Veth)]
    public async Task Some_are_kept_ready_and_none_is_left(GuestInterfaceKind kind)
    {
        await using var scene = new NetworkScene(NetworkScene.TestOptions with { Ready = 2 }, kind);
        Assert.Null(await scene.Pool.FindProblemAsync());
        Assert.True(scene.Pool.Available);
        Assert.False(Directory.Exists(scene.Directory));

        var taken = await scene.Pool.TakeAsync(Ct);
        while (Directory.GetFiles(scene.Directory).Length < 3)
        {
            await Task.Delay(10, Ct);
        }

        var known = Directory.GetFiles(scene.Directory).ToHashSet();
        var second = await scene.Pool.TakeAsync(Ct);
        Assert.NotEqual(taken.NamespacePath, second.NamespacePath);
        Assert.Contains(second.NamespacePath, known);
        await taken.DisposeAsync();
        await second.DisposeAsync();
        await scene.Pool.DisposeAsync();
        Assert.False(Directory.Exists(scene.Directory));
        await Assert.ThrowsAsync<ObjectDisposedException>(() => scene.Pool.TakeAsync(Ct));
        await taken.DisposeAsync();
        scene.Pool.Remove(taken.Name);
    }

    [Fact]
    public async Task A_tap_is_its_users_alone()
    {
        await using var scene = new NetworkScene(kind: GuestInterfaceKind.Tap);
        await using var network = await scene.Pool.TakeAsync(Ct);
        network.GiveTap(319_999);
        Assert.Equal("319999", (await RunAsync("nsenter", "--net=" + network.NamespacePath, "sh", "-c", "mount -t sysfs none /mnt && cat /mnt/class/net/guest0/owner; umount /mnt")).Trim());
    }

    [Fact]
    public async Task Leftovers_of_a_dead_process_are_removed_and_nothing_else()
    {
        await using var scene = new NetworkScene();
        await using var other = new NetworkScene();
        await using var live = await scene.Pool.TakeAsync(Ct);
        await using var elsewhere = await other.Pool.TakeAsync(Ct);

        // As a process left it that was killed: one network whole, one of which only the file was made, and one of another host.
        await RunAsync("sh", "-c", $"touch {scene.Directory}/{Dead}-1 {scene.Directory}/{Dead}-2 {other.Directory}/{Dead}-1 {scene.Directory}/notes; unshare --net={scene.Directory}/{Dead}-1 true; unshare --net={other.Directory}/{Dead}-1 true");
        Assert.Contains($"{scene.Directory}/{Dead}-1", await File.ReadAllTextAsync("/proc/self/mountinfo", Ct), StringComparison.Ordinal);

        Assert.Equal([$"{Dead}-1", $"{Dead}-2"], scene.Pool.RemoveLeftovers().Order());
        Assert.DoesNotContain($"{scene.Directory}/{Dead}", await File.ReadAllTextAsync("/proc/self/mountinfo", Ct), StringComparison.Ordinal);
        Assert.Equal([live.NamespacePath, $"{scene.Directory}/notes"], Directory.GetFiles(scene.Directory).Order());
        Assert.Equal(2, Directory.GetFiles(other.Directory).Length);
        Assert.Empty(scene.Pool.RemoveLeftovers());

        using (live.Listen(NetworkPlan.ProxyPort))
        {
            scene.Pool.Remove("../" + live.Name);
            scene.Pool.Remove("notes");
            Assert.True(File.Exists(live.NamespacePath));
            scene.Pool.Remove(live.Name);
            Assert.False(File.Exists(live.NamespacePath));
        }

        File.Delete($"{scene.Directory}/notes");
        Assert.Single(other.Pool.RemoveLeftovers());
        Assert.Single(Directory.GetFiles(other.Directory));
    }

    [Fact]
    public async Task What_cannot_be_made_says_why_and_leaves_nothing()
    {
        await using var scene = new NetworkScene(NetworkScene.TestOptions with { MaxOpen = -1 });
        var problem = await scene.Pool.FindProblemAsync();
        Assert.Contains("no network", problem, StringComparison.Ordinal);
        Assert.Contains("nft", problem, StringComparison.Ordinal);
        Assert.False(scene.Pool.Available);
        Assert.False(Directory.Exists(scene.Directory));
        await Assert.ThrowsAsync<Sandbox.Isolation.Backends.IsolationException>(() => scene.Pool.TakeAsync(Ct));
    }

    /// <summary>No assertion of time: the figures go to the output.</summary>
    [Fact]
    public async Task How_long_they_take()
    {
        foreach (var kind in Enum.GetValues<GuestInterfaceKind>())
        {
            await using var scene = new NetworkScene(kind: kind);
            await using (await scene.Pool.TakeAsync(Ct))
            {
                // The first compiles.
            }

            var make = new List<double>();
            var open = new List<double>();
            var listen = new List<double>();
            var remove = new List<double>();
            for (var i = 0; i < 15; i++)
            {
                var clock = Stopwatch.StartNew();
                var network = await scene.Pool.TakeAsync(Ct);
                make.Add(clock.Elapsed.TotalMilliseconds);
                clock.Restart();
                network.Listen(NetworkPlan.ProxyPort);
                listen.Add(clock.Elapsed.TotalMilliseconds);
                clock.Restart();
                await network.OpenAsync([new OpenEndpoint(IPAddress.Parse(NetworkScene.Public), 443, TimeSpan.FromHours(1))], Ct);
                open.Add(clock.Elapsed.TotalMilliseconds);
                clock.Restart();
                await network.DisposeAsync();
                remove.Add(clock.Elapsed.TotalMilliseconds);
            }

            TestContext.Current.TestOutputHelper?.WriteLine($"{kind}: make {Median(make):0.0} ms, listen {Median(listen):0.00} ms, open {Median(open):0.0} ms, remove {Median(remove):0.0} ms");
        }

        static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
    }

    /// <summary>No process has this number with this time of start.</summary>
    private const string Dead = "999999999-1";

    private static async Task<string> RunAsync(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true })!;
        var output = await process.StandardOutput.ReadToEndAsync(Ct);
        await process.WaitForExitAsync(Ct);
        Assert.Equal(0, process.ExitCode);
        return output;
    }
}
