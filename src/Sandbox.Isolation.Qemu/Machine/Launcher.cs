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
/// open itself, and becomes, in turn, setsid (a Ctrl-C at the terminal of this program is not for its machines), unshare (no network), setpriv (no privileges, dies with us) and QEMU. It is one process all along.
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

    /// <summary>$0 is the user id. Only this process tree sees the mounts; /mnt is but a place to put the node.</summary>
    private const string OwnKvm =
        """
        set -e
        mount -t tmpfs -o mode=755,size=64k,nosuid,noexec sandbox /mnt
        mknod -m 600 /mnt/kvm c 10 232
        chown "$0" /mnt/kvm
        mount --bind /mnt/kvm /dev/kvm
        exec "$@"
        """;

    /// <summary>
    /// Group of /dev/kvm: usually one of its own, which is then all the process keeps. Where the device is root's alone (0), the process gets a node
    /// of its own in a private mount namespace. No device: <see langword="null"/>. Looked up once: it costs a process.
    /// </summary>
    private static readonly Lazy<string?> KvmGroup = new(FindKvmGroup);

    /// <summary>Pinned memory beside the guest's. Registers and page tables of a GPU need some tens of MiB.</summary>
    private const int DeviceOverheadMiB = 512;

    public static async Task<Process> StartAsync(
        string binary, IReadOnlyList<string> arguments, MicroVmSpec spec, QemuDirectory directory, IReadOnlyList<string> cgroupProcs, uint? userId, bool kvm, string disk, string memory)
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
        foreach (var argument in (string[])["-c", Script, "sandbox-vmm", .. Confine(userId, kvm), binary, .. arguments])
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

    private static List<string> Confine(uint? userId, bool kvm)
    {
        if (userId is not { } uid)
        {
            return ["setpriv", "--no-new-privs", "--pdeathsig", "KILL"];
        }

        var id = uid.ToString(CultureInfo.InvariantCulture);

        // A machine that is emulated has no business with the device.
        var group = kvm ? KvmGroup.Value : null;
        string[] own = group == "0" ? ["--mount", "--net", "--ipc", "--uts", "--", "/bin/sh", "-c", OwnKvm, id] : ["--net", "--ipc", "--uts", "--"];
        string[] groups = group is null or "0" ? ["--clear-groups"] : ["--groups", group];
        return
        [
            "unshare", .. own,
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
