using System.Globalization;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>QEMU's arguments for one microVM. docs/qemu.md says what each is for.</summary>
internal static class CommandLine
{
    /// <summary>Descriptors that the launcher opens before it drops its privileges.</summary>
    public const int KernelFd = 3;
    public const int InitramfsFd = 4;
    public const int RootFd = 5;
    public const int DiskFd = 6;

    public const string PortName = "sandbox.agent";

    public static IReadOnlyList<string> Build(MicroVmSpec spec, VmDirectory directory, string accelerator)
    {
        var tcg = accelerator == "tcg";
        var memory = spec.MemoryMiB.ToString(CultureInfo.InvariantCulture);
        return
        [
            "-name", spec.Owner.VmId,
            "-machine", "microvm,acpi=on,rtc=on,pit=off,pic=off,isa-serial=on,memory-backend=ram",
            "-accel", tcg ? "tcg,thread=multi,tb-size=64" : "kvm",
            "-cpu", tcg ? "max" : "host",
            "-smp", spec.Vcpus.ToString(CultureInfo.InvariantCulture),
            "-m", memory,
            "-object", $"memory-backend-memfd,id=ram,size={memory}M,share=on",
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none",
            "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-chardev", $"socket,id=qmp,path={directory.Qmp},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
            "-kernel", $"/dev/fd/{KernelFd}", "-initrd", $"/dev/fd/{InitramfsFd}", "-append", KernelArguments(tcg),
            "-add-fd", $"fd={RootFd},set=1", "-add-fd", $"fd={DiskFd},set=2",
            "-blockdev", "driver=file,node-name=root-file,filename=/dev/fdset/1,read-only=on,locking=off",
            "-blockdev", "driver=raw,node-name=root,file=root-file,read-only=on",
            "-device", "virtio-blk-device,drive=root,serial=sandbox-root",
            "-blockdev", "driver=file,node-name=data-file,filename=/dev/fdset/2,locking=off,discard=unmap",
            "-blockdev", "driver=raw,node-name=data,file=data-file,discard=unmap",
            "-device", "virtio-blk-device,drive=data,serial=sandbox-data",
            "-device", "virtio-serial-device",
            "-chardev", $"socket,id=agent,path={directory.Agent},server=on,wait=off",
            "-device", $"virtserialport,chardev=agent,name={PortName}",
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng,max-bytes=1024,period=1000",
        ];
    }

    /// <summary>
    /// An emulated CPU cannot calibrate its clock reliably on a loaded host, so the guest is told the answer; under KVM it finds it by itself.
    /// </summary>
    private static string KernelArguments(bool tcg) =>
        "console=ttyS0 panic=-1 loglevel=4 random.trust_cpu=off"
        + (tcg ? string.Create(CultureInfo.InvariantCulture, $" tsc=reliable tsc_early_khz={HostClock.TscKhz} lpj=10000000 nokaslr mitigations=off") : "");
}
