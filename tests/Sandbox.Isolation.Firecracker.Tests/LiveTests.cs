using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker.Tests.Fixture;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>
/// The real Firecracker under a real KVM, where there are both: boot, save, restore, clone. Skipped elsewhere with the backend's own reason. What passes here is what "not verified on hardware" stands for everywhere
/// else; as long as no machine has run it, that label stays.
/// </summary>
public sealed class LiveTests : IAsyncLifetime
{
    private static readonly TemplateSizes Sizes = new() { Vcpus = 1, MemoryMiB = 384, DiskMiB = 256 };
    private readonly string _folder = Directory.CreateTempSubdirectory("fc-live-").FullName;
    private string _image = "";
    private FirecrackerOptions _options = null!;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        var image = new ImageStore(Environment.GetEnvironmentVariable("SANDBOX_IMAGE_ROOT") ?? ImageStore.DefaultRoot).FindCurrent("python");
        _options = new FirecrackerOptions { HostId = "live" + Guid.NewGuid().ToString("N")[..6], CacheDirectory = Path.Combine(_folder, "cache"), ProbeImage = () => image };
        var verdict = await Make(LoadedMemory.File).ProbeAsync(Ct);
        if (!verdict.Usable)
        {
            await DisposeAsync();
            Assert.Skip($"Firecracker is not usable here: {verdict.Reason}");
        }

        _image = image!;
    }

    [Theory]
    [InlineData(LoadedMemory.File)]
    [InlineData(LoadedMemory.Userfault)]
    public async Task A_machine_boots_is_saved_comes_back_and_is_cloned(LoadedMemory how)
    {
        var backend = Make(how);
        var spec = Spec("booted");
        var saved = new SavedInMemory();
        await using (var vm = await backend.StartAsync(spec, Ct))
        {
            Assert.Equal("boot", vm.StartReport.Method);
            Assert.Equal("booted\n", (await GuestRuns.ShellAsync(vm, "hostname; echo kept > /tmp/f", cancellationToken: Ct)).Stdout);
            await vm.SaveAsync(saved, SaveMode.Continue, _ => Task.CompletedTask, Ct);
            Assert.Equal("kept\n", (await GuestRuns.ShellAsync(vm, "cat /tmp/f", cancellationToken: Ct)).Stdout);
        }

        await using (var vm = await backend.StartAsync(Spec("restored") with { Restore = new MachineRestore(saved, []) }, Ct))
        {
            Assert.Equal("kept\n", (await GuestRuns.ShellAsync(vm, "cat /tmp/f", cancellationToken: Ct)).Stdout);
        }

        var golden = await backend.BuildGoldenAsync(_image, Sizes, Ct);
        try
        {
            await using var clone = await backend.StartAsync(Spec("clone"), Ct);
            Assert.Equal("clone", clone.StartReport.Method);
            Assert.Equal("2\n", (await GuestRuns.ShellAsync(clone, "python3 -c 'print(1+1)'", cancellationToken: Ct)).Stdout);
        }
        finally
        {
            Directory.Delete(golden.Directory, recursive: true);
        }
    }

    public ValueTask DisposeAsync()
    {
        HostGroups.Remove(_options.HostId);
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }

        return ValueTask.CompletedTask;
    }

    private FirecrackerBackend Make(LoadedMemory how) => new(_options with { LoadedMemory = how }, NullLogger<FirecrackerBackend>.Instance);

    private MicroVmSpec Spec(string name) => new()
    {
        Owner = new MicroVmOwner(name, "ses_" + name, 1),
        ImageDirectory = _image,
        Vcpus = Sizes.Vcpus,
        MemoryMiB = Sizes.MemoryMiB,
        DiskMiB = Sizes.DiskMiB,
        DiskPath = Path.Combine(_folder, name + ".img"),
        Hostname = name,
    };
}
