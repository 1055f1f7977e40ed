using System.Diagnostics;
using Sandbox.Bench.Benches;
using Sandbox.Bench.Machines;
using Sandbox.Isolation.Images;
using Xunit;

namespace Sandbox.Bench.Tests;

/// <summary>The baseline of machines follows the backend and the image that are there: where it does not, the benches that need it cannot be run.</summary>
public sealed class RawMachineTests
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Fact]
    public async Task What_is_read_from_a_clone_boots_clones_and_restores_to_an_agent_that_answers()
    {
        await using var own = new OwnBackend(Context());
        await using var recipe = await RawRecipe.TakeAsync(own, Ct);

        var spawned = 0;
        await using (var booted = await RawMachine.BootAsync(recipe, () => spawned++, Ct))
        {
            await GuestRuns.RunAsync(booted.Guest, GuestRuns.Echo, null, Ct);
        }

        await using var clone = await RawMachine.CloneAsync(recipe, Ct);
        await GuestRuns.RunAsync(clone.Guest, GuestRuns.Echo, null, Ct);
        await clone.SaveAsync(Ct);
        await using (var restored = await RawMachine.RestoreAsync(recipe, clone.Disk, clone.Saved, () => spawned++, Ct))
        {
            await GuestRuns.RunAsync(restored.Guest, GuestRuns.Echo, null, Ct);
        }

        Assert.Equal(2, spawned);
    }

    [Fact]
    public async Task A_guest_that_gives_up_is_an_error_with_the_last_lines_of_its_console()
    {
        await using var own = new OwnBackend(Context());
        await using var recipe = await RawRecipe.TakeAsync(own, Ct);
        var lost = recipe with { Arguments = [.. recipe.Arguments.Select(a => a.StartsWith("console=", StringComparison.Ordinal) ? a + " sandbox.root=vdz" : a)] };

        var e = await Assert.ThrowsAsync<BenchException>(() => RawMachine.BootAsync(lost, () => { }, Ct));

        Assert.Contains("sandbox-init: there is no disk vdz", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_boot_that_hangs_before_QEMU_listens_ends_at_its_deadline_with_what_its_console_said()
    {
        using var directory = new Scratch();
        var binary = directory.File("qemu", "#!/bin/sh\necho 'first line'\necho 'the last line'\nexec sleep 300\n");
        File.SetUnixFileMode(binary, UnixFileMode.UserRead | UnixFileMode.UserExecute);

        var message = await HangAsync(directory.Recipe(binary));

        Assert.Contains("boot", message, StringComparison.Ordinal);
        Assert.Contains("within 1 s", message, StringComparison.Ordinal);
        Assert.EndsWith("first line\nthe last line", message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_boot_whose_guest_never_answers_ends_at_its_deadline_with_the_state_of_QEMU()
    {
        const string Binary = "/usr/bin/qemu-system-x86_64";
        Assert.SkipUnless(File.Exists(Binary), "QEMU is not installed.");
        using var directory = new Scratch();

        // A machine without a processor: QEMU listens, nothing inside ever says hello.
        var message = await HangAsync(directory.Recipe(
            Binary,
            "-name", "x", "-machine", "none", "-nodefaults", "-display", "none", "-chardev", "socket,id=qmp,path=x,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
            "-chardev", "socket,id=agent,path=x,server=on,wait=off", "-S", "-incoming", "defer"));

        Assert.Contains("within 1 s; QEMU is 'running'", message, StringComparison.Ordinal);
        Assert.EndsWith("its console said nothing", message, StringComparison.Ordinal);
    }

    private static async Task<string> HangAsync(RawRecipe recipe)
    {
        var began = Stopwatch.GetTimestamp();
        var e = await Assert.ThrowsAsync<BenchException>(() => RawMachine.BootAsync(recipe, () => { }, Ct, TimeSpan.FromSeconds(1)));

        Assert.InRange(Stopwatch.GetElapsedTime(began), TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(20));
        Assert.Empty(Directory.EnumerateDirectories(recipe.Directory));
        return e.Message;
    }

    private static BenchContext Context()
    {
        var root = Environment.GetEnvironmentVariable("SANDBOX_IMAGE_ROOT") is { Length: > 0 } set ? set : ImageStore.DefaultRoot;
        Assert.SkipWhen(new ImageStore(root).FindCurrent(BenchContext.Template) is null, "There is no guest image; ./scripts/test builds it.");
        return new BenchContext { ImageRoot = root, Say = TestContext.Current.SendDiagnosticMessage };
    }

    /// <summary>A directory with files that are good enough to be opened.</summary>
    private sealed class Scratch : IDisposable
    {
        private readonly DirectoryInfo _root = Directory.CreateTempSubdirectory("sandbox-raw-");

        public string File(string name, string content)
        {
            var path = Path.Combine(_root.FullName, name);
            System.IO.File.WriteAllText(path, content);
            return path;
        }

        public RawRecipe Recipe(string binary, params string[] arguments)
        {
            var empty = File("empty", "");
            return new RawRecipe(null)
            {
                Binary = binary,
                Arguments = arguments,
                Kernel = empty,
                Initramfs = empty,
                Root = empty,
                Memory = empty,
                Devices = empty,
                Disk = empty,
                MemoryMiB = 64,
                Directory = _root.CreateSubdirectory("machines").FullName,
            };
        }

        public void Dispose() => _root.Delete(recursive: true);
    }
}
