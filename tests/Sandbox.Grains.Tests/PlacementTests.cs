using Sandbox.Abstractions;
using Sandbox.Grains.Scheduling;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>Which host and which backend a session gets, and what is said when it gets none.</summary>
public sealed class PlacementTests
{
    private static readonly DateTimeOffset Now = new(2026, 11, 29, 0, 0, 0, TimeSpan.Zero);

    private static readonly HostBackend Qemu = new()
    {
        Name = "qemu",
        Usable = true,
        Accelerator = "tcg",
        Boundary = IsolationBoundary.VirtualMachine,
        TakesUntrusted = true,
        MemorySnapshot = true,
        DiskSnapshot = true,
        Fork = true,
    };

    private static readonly HostBackend GVisor = new()
    {
        Name = "gvisor",
        Usable = true,
        Boundary = IsolationBoundary.UserSpaceKernel,
        TakesUntrusted = true,
        MemorySnapshot = true,
        DiskSnapshot = true,
        Fork = true,
        Network = true,
    };

    private static readonly HostBackend Oci = new() { Name = "oci", Usable = true, Boundary = IsolationBoundary.HostKernel, DiskSnapshot = true, Fork = true, Devices = true };

    private static readonly HostBackend Wasm = new() { Name = "wasm", Usable = true, Boundary = IsolationBoundary.WebAssembly, TakesUntrusted = true, DiskSnapshot = true, Processes = false, ImageKind = "wasm" };

    [Fact]
    public void The_strongest_boundary_is_taken_when_nothing_is_named() =>
        Assert.Equal("qemu", Choose(new() { Template = "python", MemoryMiB = 512 }, Host("a", Oci, GVisor, Qemu)).Backend);

    [Fact]
    public void Hardware_virtualisation_is_better_than_emulation_on_whichever_host_it_is()
    {
        var placement = PlacementPolicy.Choose(new() { Template = "python", MemoryMiB = 512 }, [Host("a", Qemu), Host("b", Qemu with { Accelerator = "kvm" })], Now);
        Assert.Equal("b", placement.HostId);
    }

    [Fact]
    public void A_backend_that_is_not_usable_is_passed_over() =>
        Assert.Equal("gvisor", Choose(new() { Template = "python", MemoryMiB = 512 }, Host("a", Qemu with { Usable = false, Reason = "there is no QEMU" }, GVisor)).Backend);

    [Fact]
    public void Untrusted_code_never_gets_the_hosts_kernel()
    {
        Assert.Contains("shares the host's kernel", Refused(new() { Template = "python", MemoryMiB = 512, Backend = "oci" }, Host("a", Oci, Qemu)), StringComparison.Ordinal);
        Assert.Contains("shares the host's kernel", Refused(new() { Template = "python", MemoryMiB = 512 }, Host("a", Oci)), StringComparison.Ordinal);
        Assert.Equal("oci", Choose(new() { Template = "python", MemoryMiB = 512, Backend = "oci", Untrusted = false }, Host("a", Oci, Qemu)).Backend);
    }

    [Fact]
    public void Needs_decide_where_no_backend_is_named()
    {
        var trusted = new PlacementRequest { Template = "python", MemoryMiB = 512, Untrusted = false };
        Assert.Equal("gvisor", Choose(trusted with { Needs = new() { Network = true } }, Host("a", Oci, GVisor, Qemu)).Backend);
        Assert.Equal("oci", Choose(trusted with { Needs = new() { Devices = [new("gpu")] } }, Host("a", Oci, GVisor, Qemu) with { Devices = [Gpu("0000:01:00.0", "oci")] }).Backend);
        Assert.Equal("gvisor", Choose(trusted with { Needs = new() { MemorySnapshot = true } }, Host("a", Oci, GVisor)).Backend);
        Assert.Contains("saves no memory", Refused(trusted with { Needs = new() { MemorySnapshot = true } }, Host("a", Oci)), StringComparison.Ordinal);
        Assert.Contains("the session needs VirtualMachine", Refused(trusted with { Needs = new() { Boundary = IsolationBoundary.VirtualMachine } }, Host("a", Oci)), StringComparison.Ordinal);
    }

    [Fact]
    public void An_image_is_started_by_a_backend_of_its_kind()
    {
        var host = Host("a", Qemu, Wasm) with
        {
            Templates = new Dictionary<string, string> { ["python"] = "1", ["wasm"] = "2" },
            TemplateKinds = new Dictionary<string, string> { ["python"] = "linux", ["wasm"] = "wasm" },
        };
        Assert.Equal("wasm", Choose(new() { Template = "wasm", MemoryMiB = 128 }, host).Backend);
        Assert.Equal("qemu", Choose(new() { Template = "python", MemoryMiB = 128 }, host).Backend);
        Assert.Contains("of kind 'wasm'", Refused(new() { Template = "wasm", MemoryMiB = 128, Backend = "qemu" }, host), StringComparison.Ordinal);
    }

    [Fact]
    public void Who_refuses_says_of_every_host_why()
    {
        var silent = Host("c", Qemu) with { At = Now - TimeSpan.FromMinutes(1) };
        var full = Host("b", Qemu) with { MemoryLeasedMiB = 8000 };
        var error = Assert.Throws<SandboxException>(() => PlacementPolicy.Choose(new() { Template = "python", MemoryMiB = 512, Backend = "qemu" }, [Host("a", Oci), full, silent], Now));
        Assert.Equal(SandboxErrorCode.ResourceExhausted, error.Code);
        Assert.Contains("a: it has no backend 'qemu'; it has: oci", error.Message, StringComparison.Ordinal);
        Assert.Contains("b: 192 MiB of its 8192 MiB are free", error.Message, StringComparison.Ordinal);
        Assert.Contains("c: silent for 60 s", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Of_hosts_that_would_do_one_with_a_free_device_is_taken_and_the_strongest_boundary_first()
    {
        var request = new PlacementRequest { Template = "python", MemoryMiB = 512, Untrusted = false, Needs = new() { Devices = [new("gpu")] } };
        var vfio = Qemu with { Devices = true };
        var busy = Host("a", vfio) with { Devices = [Gpu("0000:01:00.0", "qemu") with { State = "leased" }] };
        var container = Host("b", Oci) with { Devices = [Gpu("0000:01:00.0", "oci")] };
        var big = Host("c", vfio) with { Devices = [Gpu("0000:01:00.0", "qemu"), Gpu("0000:02:00.0", "qemu") with { Group = 2 }] };
        var small = Host("d", vfio) with { Devices = [Gpu("0000:01:00.0", "qemu")] };

        var placement = PlacementPolicy.Choose(request, [busy, container, big, small], Now);
        Assert.Equal(("d", "qemu", "0000:01:00.0"), (placement.HostId, placement.Backend, Assert.Single(placement.Devices)));
        Assert.Equal("c", PlacementPolicy.Choose(request with { Needs = new() { Devices = [new("10de", 2)] } }, [busy, container, big, small], Now).HostId);
        Assert.Equal("b", PlacementPolicy.Choose(request, [busy, container], Now).HostId);
        Assert.Equal("oci", Choose(request, Host("e", vfio, Oci) with { Devices = [Gpu("0000:01:00.0", "oci")] }).Backend);
        Assert.Equal("c", PlacementPolicy.Choose(request with { PreferredHost = "c" }, [busy, container, big, small], Now).HostId);
    }

    [Fact]
    public void Devices_that_all_have_an_owner_are_worth_waiting_for_and_those_that_nobody_has_are_not()
    {
        var request = new PlacementRequest { Template = "python", MemoryMiB = 512, Untrusted = false, Needs = new() { Devices = [new("gpu")] } };
        var vfio = Qemu with { Devices = true };
        var busy = Host("a", vfio) with { Devices = [Gpu("0000:01:00.0", "qemu") with { State = "resetting" }] };
        var none = Host("b", vfio);
        var unreachable = Host("c", vfio) with { Devices = [Gpu("0000:01:00.0")] };
        var silent = Host("d", vfio) with { Devices = [Gpu("0000:01:00.0", "qemu")], At = Now - TimeSpan.FromMinutes(1) };

        Assert.Equal((SandboxErrorCode.ResourceExhausted, "No GPU is free. Looked at: a (has 1: 0 free, 0 leased, 1 to be reset); b (has none)."), RefusalOf(request, busy, none));
        Assert.Equal("No GPU is free. Looked at: e (has 1: 0 free, 1 leased, 0 to be reset).", RefusalOf(request, Host("e", vfio, Oci) with { Devices = [Gpu("0000:01:00.0", "oci") with { State = "leased" }] }).Message);
        var (code, message) = RefusalOf(request, none, unreachable);
        Assert.Equal(SandboxErrorCode.Unsupported, code);
        Assert.Contains("c (has 1, none of which can be handed out: no IOMMU group", message, StringComparison.Ordinal);
        Assert.Equal(SandboxErrorCode.ResourceExhausted, RefusalOf(request, none, silent).Code);
        Assert.Equal(SandboxErrorCode.Unsupported, RefusalOf(request with { Needs = new() { Devices = [new("gpu"), new("npu")] } }, busy, none).Code);
    }

    private static (SandboxErrorCode Code, string Message) RefusalOf(PlacementRequest request, params HostReport[] hosts)
    {
        var error = Assert.Throws<SandboxException>(() => PlacementPolicy.Choose(request, hosts, Now));
        return (error.Code, error.Message);
    }

    private static HostDeviceReport Gpu(string address, params string[] backends) => new() { Address = address, Kind = "gpu", Model = "10de:2684", State = "free", Group = 1, Backends = backends };

    private static Placement Choose(PlacementRequest request, HostReport host) => PlacementPolicy.Choose(request, [host], Now);

    /// <summary>What no host can serve is refused for good, before a session is made.</summary>
    private static string Refused(PlacementRequest request, HostReport host)
    {
        var error = Assert.Throws<SandboxException>(() => Choose(request, host));
        Assert.Equal(SandboxErrorCode.Unsupported, error.Code);
        return error.Message;
    }

    private static HostReport Host(string id, params HostBackend[] backends) => new()
    {
        HostId = id,
        At = Now,
        MemoryMiB = 8192,
        MemoryLeasedMiB = 0,
        Cpus = 2,
        MicroVms = 0,
        MaxMicroVms = 10,
        Backends = backends,
        Templates = new Dictionary<string, string> { ["python"] = "1" },
    };
}
