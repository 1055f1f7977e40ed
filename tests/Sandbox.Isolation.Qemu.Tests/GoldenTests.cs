using System.Globalization;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>Clones of a golden snapshot: made from what is there, different where it matters.</summary>
public sealed class GoldenTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    /// <summary>Sizes that no server uses, so that what the tests do to the snapshot harms nobody.</summary>
    private static readonly TemplateSizes Sizes = new() { Vcpus = 1, MemoryMiB = 448, DiskMiB = 200 };

    /// <summary>Everything a process could take for random, from the kernel, the warm interpreter, and programs started later.</summary>
    private const string Randomness =
        """
        import os, random, secrets, ssl, subprocess, tempfile, uuid
        import numpy
        node = subprocess.run(["node", "-p", "Math.random() + ' ' + crypto.randomBytes(16).toString('hex') + ' ' + crypto.randomUUID()"], capture_output=True, text=True).stdout
        print(os.urandom(16).hex())
        print(random.random())
        print(numpy.random.rand())
        print(numpy.random.default_rng().random())
        print(secrets.token_hex(16))
        print(ssl.RAND_bytes(16).hex())
        print(uuid.uuid4())
        print(next(tempfile._get_candidate_names()))
        print(subprocess.run(["openssl", "rand", "-hex", "16"], capture_output=True, text=True).stdout.strip() or os.urandom(8).hex())
        for value in node.split(): print(value)
        """;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Siblings_share_nothing_that_should_be_their_own_and_tell_the_right_time()
    {
        await fixture.BuildGoldenAsync(Sizes);
        await using var first = await CloneAsync();
        await using var second = await CloneAsync();
        Assert.Equal("test-" + first.Owner.VmId, (await CompareAsync("clone", first, second))[12]);
    }

    [Fact]
    public async Task Claimed_siblings_share_nothing_either()
    {
        await fixture.BuildGoldenAsync(Sizes);
        var spec = fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB);
        await using var first = (await fixture.Backend.PrepareAsync(spec, Ct))!;
        await first.ClaimAsync(new MicroVmClaim("ses_one", 1, "one", spec.DiskPath + ".claimed"), Ct);
        spec = fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB);
        await using var second = (await fixture.Backend.PrepareAsync(spec, Ct))!;
        await second.ClaimAsync(new MicroVmClaim("ses_two", 1, "two", spec.DiskPath + ".claimed"), Ct);
        Assert.Equal("one", (await CompareAsync("pool", first, second))[12]);
    }

    /// <summary>Lets two machines tell what should be their own, fails if anything is the same, and returns what the first one said.</summary>
    private static async Task<string[]> CompareAsync(string method, params IMicroVm[] machines)
    {
        var told = new List<string[]>();
        foreach (var vm in machines)
        {
            Assert.Equal(method, vm.StartReport.Method);
            await MakeContextAsync(vm, "c", "python");
            var random = (await CodeAsync(vm, "c", Randomness)).Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
            Assert.Equal(12, random.Length);
            var shell = await ShellAsync(vm, "hostname; cat /etc/machine-id; cat /proc/sys/kernel/random/uuid; bash -c 'echo $RANDOM$RANDOM$RANDOM'");
            told.Add([.. random, .. shell.Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries)]);
            var clock = await ShellAsync(vm, "date +%s");
            var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
            Assert.InRange(long.Parse(clock.Stdout.Trim(), CultureInfo.InvariantCulture), now - 60, now + 2);
        }

        foreach (var (a, b) in told[0].Zip(told[1]))
        {
            Assert.NotEqual(a, b);
        }

        return told[0];
    }

    [Fact]
    public async Task A_clone_has_its_interpreter_ready_with_a_clean_slate_and_its_own_environment_directory_and_disk()
    {
        await fixture.BuildGoldenAsync(Sizes);
        await using var first = await CloneAsync();
        await using var second = await CloneAsync();
        Assert.DoesNotContain((await first.Guest.RequestAsync(new Request { ListContexts = new ListContexts() }, Ct)).Contexts.Contexts, _ => true);

        var make = new CreateContext { ContextId = "c", Language = "python", Cwd = "/tmp" };
        make.Env["MINE"] = "yes";
        await first.Guest.RequestAsync(new Request { CreateContext = make }, Ct);
        var told = await CodeAsync(first, "c", "import sys, os\nprint('pandas' in sys.modules, os.environ['MINE'], os.getcwd(), sorted(n for n in dir() if n in ('importlib', 'name', 'numpy')))\nx = 5");
        Assert.Equal("True yes /tmp []\n", told.Stdout);
        var again = await CodeAsync(first, "c", "x");
        Assert.Equal(2u, (uint)again.Results.Single().ExecutionCount);

        // The warm interpreter is given away once; the next context starts its own.
        await MakeContextAsync(first, "d", "python");
        Assert.Equal("NameError", (await CodeAsync(first, "d", "x")).Error!.Name);
        Assert.Equal("False\n", (await CodeAsync(first, "d", "import os; print('MINE' in os.environ)")).Stdout);
        await MakeContextAsync(second, "c", "python");
        Assert.Equal("NameError", (await CodeAsync(second, "c", "x")).Error!.Name);

        await ShellAsync(first, "echo first > /home/user/mine; dd if=/dev/zero of=/home/user/big bs=1M count=20 2>&1; sync");
        Assert.Equal("none\n", (await ShellAsync(second, "cat /home/user/mine 2>/dev/null || echo none")).Stdout);
        Assert.Equal("first\n", (await ShellAsync(first, "cat /home/user/mine")).Stdout);
    }

    [Fact]
    public async Task A_damaged_snapshot_is_no_obstacle_and_other_sizes_are_booted()
    {
        var golden = await fixture.BuildGoldenAsync(Sizes with { DiskMiB = 201 });
        await File.WriteAllBytesAsync(Path.Combine(golden.Directory, "devices"), new byte[1000], Ct);
        try
        {
            await using var vm = await fixture.Backend.StartAsync(fixture.Spec(Sizes.MemoryMiB, 201), Ct);
            Assert.Equal("boot", vm.StartReport.Method);
            Assert.Equal("up\n", (await ShellAsync(vm, "echo up")).Stdout);
        }
        finally
        {
            Directory.Delete(golden.Directory, recursive: true);
        }

        Assert.Null(await fixture.Backend.FindGoldenAsync(fixture.Image, Sizes with { Vcpus = 2 }, Ct));
    }

    [Fact]
    public async Task Building_twice_gives_the_same_snapshot_and_leaves_no_machine()
    {
        var both = await Task.WhenAll(fixture.BuildGoldenAsync(Sizes), fixture.BuildGoldenAsync(Sizes));

        Assert.Equal(both[0], both[1]);
        Assert.True(both[0].MemoryBytes is > 50 << 20 and < 448L << 20);
        Assert.Empty(Directory.GetDirectories(Path.Combine(fixture.Options.RuntimeRoot, fixture.Options.HostId), "vm-golden*"));
        Assert.Empty(Directory.GetDirectories(Path.GetDirectoryName(both[0].Directory)!, "partial-*"));
    }

    [Fact]
    public async Task A_machine_of_the_pool_waits_stopped_and_serves_its_claimant_or_says_that_it_is_dead()
    {
        await fixture.BuildGoldenAsync(Sizes);
        var spec = fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB);
        await using (var vm = await fixture.Backend.PrepareAsync(spec, Ct))
        {
            var disk = spec.DiskPath + ".claimed";
            await vm!.ClaimAsync(new MicroVmClaim("ses_claimant", 3, "claimant", disk), Ct);

            Assert.Equal("pool", vm.StartReport.Method);
            Assert.Equal(new MicroVmOwner(spec.Owner.VmId, "ses_claimant", 3), vm.Owner);
            Assert.Equal("claimant\n", (await ShellAsync(vm, "hostname")).Stdout);
            Assert.True(File.Exists(disk) && !File.Exists(spec.DiskPath));

            // The reaper goes by the claimant now.
            Assert.Empty(await fixture.Backend.ReapAsync(o => o == vm.Owner, Ct));
        }

        spec = fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB);
        await using var dead = await fixture.Backend.PrepareAsync(spec, Ct);
        foreach (var process in System.Diagnostics.Process.GetProcesses().Where(p => p.ProcessName.StartsWith("qemu-system", StringComparison.Ordinal)))
        {
            if (File.ReadAllText($"/proc/{process.Id}/cmdline").Contains($"/{fixture.Options.HostId}/vm-{spec.Owner.VmId}/", StringComparison.Ordinal))
            {
                process.Kill();
            }
        }

        await dead!.Exited;
        var error = await Assert.ThrowsAsync<IsolationException>(() => dead.ClaimAsync(new MicroVmClaim("ses_other", 1, "other", spec.DiskPath + ".claimed"), Ct));
        Assert.Contains("is dead", error.Message, StringComparison.Ordinal);
    }

    private Task<IMicroVm> CloneAsync() => fixture.Backend.StartAsync(fixture.Spec(Sizes.MemoryMiB, Sizes.DiskMiB), Ct);

    private static Task MakeContextAsync(IMicroVm vm, string id, string language) =>
        vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = id, Language = language } }, Ct);
}
