using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.TestSupport;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>Containers with devices by descriptions of the Container Device Interface. A node of the kernel's own stands for the accelerator: never verified on hardware.</summary>
public sealed class DeviceTests(BackendFixture fixture) : IClassFixture<BackendFixture>, IDisposable
{
    private static readonly MicroVmDevice Device = new(PciAddress.TryParse("0000:3b:00.0")!.Value, 12, "sandbox.test/gpu=0");
    private readonly string _folder = Directory.CreateTempSubdirectory("cdi-").FullName;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("runc")]
    [InlineData("crun")]
    public async Task A_container_gets_the_nodes_files_and_variables_of_its_device_and_another_does_not(string runtime)
    {
        var library = Path.Combine(_folder, "libgpu.so");
        await File.WriteAllTextAsync(library, "a library of the driver's", Ct);
        File.SetUnixFileMode(_folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute);
        await DescribeAsync($$"""
            { "cdiVersion": "0.6.0", "kind": "sandbox.test/gpu", "devices": [ { "name": "0", "containerEdits": {
              "env": ["GPU_TIER=fast"], "deviceNodes": [ { "path": "/dev/gpu0", "hostPath": "/dev/zero" } ],
              "mounts": [ { "hostPath": "{{library}}", "containerPath": "/usr/lib/libgpu.so", "options": ["ro", "nosuid", "nodev", "bind"] } ] } } ] }
            """);
        await using var backend = Backend(runtime);
        await using var vm = await backend.StartAsync(fixture.Spec() with { Devices = [Device] }, Ct);
        await using var other = await backend.StartAsync(fixture.Spec(), Ct);

        Assert.Equal("00000000", (await ShellAsync(vm, "head -c 4 /dev/gpu0 | od -An -tx1 | tr -d ' \\n'")).Stdout);
        Assert.Equal("a library of the driver's", (await ShellAsync(vm, "cat /usr/lib/libgpu.so")).Stdout);
        Assert.NotEqual(0, (await ShellAsync(vm, "echo x > /usr/lib/libgpu.so", user: "root")).Exited.ExitCode);
        Assert.Equal("absent\n", (await ShellAsync(other, "test -e /dev/gpu0 || echo absent")).Stdout);

        // What is not its device is still nothing that it could make for itself.
        Assert.NotEqual(0, (await ShellAsync(vm, "mknod /tmp/kmsg c 1 11 && cat /tmp/kmsg", user: "root")).Exited.ExitCode);
    }

    [Fact]
    public async Task What_is_saved_is_the_disk_and_what_comes_back_has_a_device_again()
    {
        await DescribeAsync("""
            { "cdiVersion": "0.6.0", "kind": "sandbox.test/gpu", "devices": [ { "name": "0", "containerEdits": { "deviceNodes": [ { "path": "/dev/gpu0", "hostPath": "/dev/zero" } ] } } ] }
            """);
        await using var backend = Backend("runc");
        var saved = new SavedInMemory();
        await using (var vm = await backend.StartAsync(fixture.Spec() with { Devices = [Device] }, Ct))
        {
            await ShellAsync(vm, "echo kept > $HOME/file");
            await vm.SaveAsync(saved, SaveMode.StayStopped, _ => Task.CompletedTask, Ct);
        }

        await using var again = await backend.StartAsync(fixture.Spec() with { Devices = [Device], Restore = new MachineRestore(saved, []) }, Ct);
        Assert.Equal("kept\n00000000", (await ShellAsync(again, "cat $HOME/file; head -c 4 /dev/gpu0 | od -An -tx1 | tr -d ' \\n'")).Stdout);
    }

    [Fact]
    public async Task A_description_that_is_gone_or_wants_a_program_of_the_host_run_starts_nothing()
    {
        await using var backend = Backend("runc");
        var missing = await Assert.ThrowsAsync<IsolationException>(() => backend.StartAsync(fixture.Spec() with { Devices = [Device] }, Ct));
        Assert.Contains("no CDI device 'sandbox.test/gpu=0'", missing.Message, StringComparison.Ordinal);

        await DescribeAsync("""
            { "cdiVersion": "0.6.0", "kind": "sandbox.test/gpu", "devices": [ { "name": "0", "containerEdits": { "hooks": [ { "hookName": "createContainer", "path": "/usr/bin/touch", "args": ["touch", "/tmp/owned"] } ] } } ] }
            """);
        var hook = await Assert.ThrowsAsync<IsolationException>(() => backend.StartAsync(fixture.Spec() with { Devices = [Device] }, Ct));
        Assert.Contains("/usr/bin/touch run on the host as root", hook.Message, StringComparison.Ordinal);
        Assert.Empty(await backend.ReapAsync(_ => false, Ct));
    }

    [Fact]
    public async Task GVisor_hands_out_none()
    {
        Assert.False(fixture.Runsc.Capabilities.Devices);
        var error = await Assert.ThrowsAsync<IsolationException>(() => fixture.Runsc.StartAsync(fixture.Spec() with { Devices = [Device] }, Ct));
        Assert.Contains("gVisor's kernel drives no devices", error.Message, StringComparison.Ordinal);
    }

    private OciBackend Backend(string runtime) =>
        fixture.Make(OciTier.HostKernel, o => o with { Runtimes = [runtime], CdiDirectories = [_folder], CacheDirectory = Path.Combine(o.CacheDirectory, "devices-" + runtime) });

    private Task DescribeAsync(string json) => File.WriteAllTextAsync(Path.Combine(_folder, "gpu.json"), json, Ct);
}
