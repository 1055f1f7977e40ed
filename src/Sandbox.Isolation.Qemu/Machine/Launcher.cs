using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>
/// Starts QEMU: a shell joins the cgroups (so that limits hold from the first instruction), opens the files that the unprivileged process could not
/// open itself, and becomes, in turn, setsid (a Ctrl-C at the terminal of this program is not for its machines), nsenter (the machine's network; where it has none, unshare: none at all), unshare, setpriv (no privileges, dies with us) and QEMU. It is one process all along.
/// </summary>
internal static partial class Launcher
{
    private const string Script =
        """
        set -e
        for procs in $SBX_CGROUPS; do echo $$ >"$procs"; done
        exec 3<"$SBX_KERNEL" 4<"$SBX_INITRAMFS" 5<"$SBX_ROOT" 6<>"$SBX_DISK"
        if [ -n "$SBX_MEMORY" ]; then exec 7<>"$SBX_MEMORY"; fi
        if [ -n "$SBX_LOCKED" ]; then ulimit -l "$SBX_LOCKED"; fi
        unset SBX_CGROUPS SBX_KERNEL SBX_INITRAMFS SBX_ROOT SBX_DISK SBX_MEMORY SBX_LOCKED
        exec setsid "$@"
        """;

    /// <summary>$0 is the user id, $1 the devices. Only this process tree sees the mounts; /mnt is but a place to put the nodes.</summary>
    private const string OwnDevices =
        """
        set -e
        mount -t tmpfs -o mode=755,size=64k,nosuid,noexec sandbox /mnt
        for device in $1; do
            case $device in
                kvm) place=/dev/kvm minor=232 ;;
                tun) place=/dev/net/tun minor=200 ;;
            esac
            mknod -m 600 /mnt/$device c 10 $minor
            chown "$0" /mnt/$device
            mount --bind /mnt/$device $place
        done
        shift
        exec "$@"
        """;

    /// <summary>Where udev runs, everybody may open it: what can be done with it is the namespace's business. Where it does not, it is root's alone, and the process gets a node of its own.</summary>
    private static readonly Lazy<bool> TunIsOpen = new(() =>
        File.Exists("/dev/net/tun") && File.GetUnixFileMode("/dev/net/tun").HasFlag(UnixFileMode.OtherRead | UnixFileMode.OtherWrite));

    /// <summary>
    /// Group of /dev/kvm: usually one of its own, which is then all the process keeps. Where the device is root's alone (0), the process gets a node
    /// of its own in a private mount namespace. No device: <see langword="null"/>. Looked up once: it costs a process.
    /// </summary>
    private static readonly Lazy<string?> KvmGroup = new(FindKvmGroup);

    /// <summary>Pinned memory beside the guest's. Registers and page tables of a GPU need some tens of MiB.</summary>
    private const int DeviceOverheadMiB = 512;

    public static async Task<Process> StartAsync(
        string binary, IReadOnlyList<string> arguments, MicroVmSpec spec, QemuDirectory directory, IReadOnlyList<string> cgroupProcs, uint? userId, bool kvm, string? network, string disk, string memory)
    {
        var image = TemplateImage.Load(spec.ImageDirectory);
        var start = new ProcessStartInfo("/bin/sh")
        {
            WorkingDirectory = "/",
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        start.Environment.Clear();
        start.Environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin";
        start.Environment["SBX_CGROUPS"] = string.Join(' ', cgroupProcs);
        start.Environment["SBX_KERNEL"] = Path.Combine(spec.ImageDirectory, image.Kernel);
        start.Environment["SBX_INITRAMFS"] = Path.Combine(spec.ImageDirectory, image.Initramfs);
        start.Environment["SBX_ROOT"] = Path.Combine(spec.ImageDirectory, image.Root);
        start.Environment["SBX_DISK"] = disk;
        start.Environment["SBX_MEMORY"] = memory;

        // A device reaches the guest's memory without the kernel's help, which therefore pins all of it; in KiB, with some for what the device itself maps.
        start.Environment["SBX_LOCKED"] = spec.Devices.Count > 0 ? ((spec.MemoryMiB + DeviceOverheadMiB) << 10).ToString(CultureInfo.InvariantCulture) : "";
        foreach (var argument in (string[])["-c", Script, "sandbox-vmm", .. Confine(userId, kvm, network), binary, .. arguments])
        {
            start.ArgumentList.Add(argument);
        }

        if (userId is { } uid && (ChangeOwner(directory.DirectoryPath, uid, uid) != 0))
        {
            throw new IsolationException($"Cannot give {directory.DirectoryPath} to user {uid}: {Marshal.GetLastPInvokeErrorMessage()}");
        }

        foreach (var group in userId is null ? [] : spec.Devices.Select(d => d.IommuGroup).Distinct())
        {
            VfioArguments.Give(group, userId!.Value);
        }

        return await Spawner.StartAsync(start);
    }

    private static List<string> Confine(uint? userId, bool kvm, string? network)
    {
        if (userId is not { } uid)
        {
            return ["setpriv", "--no-new-privs", "--pdeathsig", "KILL"];
        }

        var id = uid.ToString(CultureInfo.InvariantCulture);

        // A machine that is emulated has no business with the device.
        var group = kvm ? KvmGroup.Value : null;
        string[] devices = [.. group == "0" ? ["kvm"] : (string[])[], .. network is null || TunIsOpen.Value ? (string[])[] : ["tun"]];
        string[] enter = network is null ? ["unshare", "--net"] : ["nsenter", "--net=" + network, "--", "unshare"];
        string[] own = devices.Length > 0 ? ["--mount", "--ipc", "--uts", "--", "/bin/sh", "-c", OwnDevices, id, string.Join(' ', devices)] : ["--ipc", "--uts", "--"];
        string[] groups = group is null or "0" ? ["--clear-groups"] : ["--groups", group];
        return
        [
            .. enter, .. own,
            "setpriv", "--reuid", id, "--regid", id, .. groups, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--pdeathsig", "KILL", "--",
        ];
    }

    private static string? FindKvmGroup()
    {
        if (!File.Exists("/dev/kvm"))
        {
            return null;
        }

        using var stat = Process.Start(new ProcessStartInfo("stat", ["-c", "%g", "/dev/kvm"]) { RedirectStandardOutput = true })!;
        var group = stat.StandardOutput.ReadToEnd().Trim();
        stat.WaitForExit();
        return group;
    }

    [LibraryImport("libc", EntryPoint = "chown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeOwner(string path, uint uid, uint gid);
}
