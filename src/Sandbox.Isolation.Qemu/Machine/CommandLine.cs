using System.Globalization;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Network;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>QEMU's arguments for one microVM. docs/qemu.md says what each is for.</summary>
internal static class CommandLine
{
    /// <summary>Descriptors that the launcher opens before it drops its privileges.</summary>
    public const int KernelFd = 3;
    public const int InitramfsFd = 4;
    public const int RootFd = 5;
    public const int DiskFd = 6;
    public const int MemoryFd = 7;

    public const string PortName = "sandbox.agent";

    /// <summary>Everything that a saved machine depends on, and that must be the same where it is restored.</summary>
    public static IReadOnlyList<string> Machine(string accelerator, int vcpus, int memoryMiB, long tscKhz, bool network)
    {
        var tcg = accelerator == "tcg";
        return
        [
            "-machine", "microvm,acpi=on,rtc=on,pit=off,pic=off,isa-serial=on,memory-backend=ram,suppress-vmdesc=on", "-global", "migration.send-configuration=off",
            "-accel", tcg ? "tcg,thread=multi,tb-size=64" : "kvm",
            "-cpu", tcg ? "max" : "host",
            "-smp", vcpus.ToString(CultureInfo.InvariantCulture),
            "-m", memoryMiB.ToString(CultureInfo.InvariantCulture),
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none",
            "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-kernel", $"/dev/fd/{KernelFd}", "-initrd", $"/dev/fd/{InitramfsFd}", "-append", KernelArguments(tcg, tscKhz),
            "-add-fd", $"fd={RootFd},set=1", "-add-fd", $"fd={DiskFd},set=2",
            "-blockdev", "driver=file,node-name=root-file,filename=/dev/fdset/1,read-only=on,locking=off",
            "-blockdev", "driver=raw,node-name=root,file=root-file,read-only=on",
            "-device", "virtio-blk-device,drive=root,serial=sandbox-root",
            "-blockdev", "driver=file,node-name=data-file,filename=/dev/fdset/2,locking=off,discard=unmap",
            "-blockdev", "driver=raw,node-name=data,file=data-file,discard=unmap",
            "-device", "virtio-blk-device,drive=data,serial=sandbox-data",
            "-device", "virtio-serial-device",
            "-device", $"virtserialport,chardev=agent,name={PortName}",
            "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-device,rng=rng,max-bytes=1024,period=1000",
            .. network ? Network : [],
        ];
    }

    /// <summary>
    /// The tap is there already and belongs to the VMM's user. What one kernel offers and another does not (UFO) is off, so that a saved machine finds the same device everywhere; nobody is told of a machine that came back,
    /// because nobody is there but us.
    /// </summary>
    private static string[] Network { get; } =
    [
        "-global", "migration.announce-rounds=0",
        "-netdev", $"tap,id=net,ifname={NetworkPlan.InterfaceName},script=no,downscript=no,vhost=off",
        "-device", $"virtio-net-device,netdev=net,mac={NetworkPlan.GuestMac},guest_announce=off,guest_ufo=off,host_ufo=off",
    ];

    /// <summary>All of it, for one microVM. Its memory is its own, or a private view of what several share; it boots, or waits stopped for the state of its devices.</summary>
    public static IReadOnlyList<string> Build(MicroVmSpec spec, QemuDirectory directory, string accelerator, long tscKhz, bool network, bool clone, bool incoming)
    {
        var size = string.Create(CultureInfo.InvariantCulture, $"size={spec.MemoryMiB}M");
        string[] own =
        [
            "-name", spec.Owner.VmId,
            "-object", clone ? $"memory-backend-file,id=ram,{size},mem-path=/dev/fd/{MemoryFd},share=off" : $"memory-backend-memfd,id=ram,{size},share=on",
            "-chardev", $"socket,id=qmp,path={directory.Qmp},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
            "-chardev", $"socket,id=agent,path={directory.Agent},server=on,wait=off",
        ];
        string[] wait = incoming ? ["-S", "-incoming", "defer"] : [];
        var machine = Machine(accelerator, spec.Vcpus, spec.MemoryMiB, tscKhz, network);
        return [.. own, .. spec.Devices.Count == 0 ? machine : WithDevices(machine, spec.Devices), .. wait];
    }

    /// <summary>A machine of another kind: no golden snapshot has its fingerprint, and none is made of it.</summary>
    private static IReadOnlyList<string> WithDevices(IReadOnlyList<string> machine, IReadOnlyList<MicroVmDevice> devices) =>
        [.. machine.Select((a, i) => i > 0 && machine[i - 1] == "-machine" ? $"{a},{VfioArguments.MicrovmOption}" : a), .. VfioArguments.ForQemu(devices.Select(d => d.Address))];

    /// <summary>
    /// An emulated CPU cannot calibrate its clock reliably on a loaded host, so the guest is told the answer; under KVM it finds it by itself. Where every program lies at the same addresses, the emulator finds the code it
    /// has translated before: a process starts in less than half the time (docs/threat-model.md says what that gives up).
    /// </summary>
    private static string KernelArguments(bool tcg, long tscKhz) =>
        "console=ttyS0 panic=-1 loglevel=4 random.trust_cpu=off"
        + (tcg ? string.Create(CultureInfo.InvariantCulture, $" tsc=reliable tsc_early_khz={tscKhz} lpj=10000000 nokaslr norandmaps mitigations=off") : "");
}
