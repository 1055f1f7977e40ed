using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>
/// Starts Firecracker. A shell joins the cgroups, so that limits hold from the first instruction, and becomes setsid (a Ctrl-C at the terminal of this program is not for its machines) and setpriv (dies
/// with us). Without a jail it then becomes Firecracker. With one it becomes unshare, whose child is the first process of a PID namespace: a shell that places the machine's files in its root by bind
/// mounts of its own mount namespace, starts the jailer and waits. The jailer changes users, and the kernel forgets at that moment that a process wanted to die with its parent; the shell does not, and takes the
/// namespace with it.
/// </summary>
internal static partial class Launcher
{
    private const string Join =
        """
        set -e
        for procs in $SBX_CGROUPS; do echo $$ >"$procs"; done
        unset SBX_CGROUPS
        exec setsid setpriv --no-new-privs --pdeathsig KILL -- "$@"
        """;

    /// <summary>Arguments are files (what, where, ro or rw), then "--", then the command.</summary>
    private const string Jail =
        """
        set -e
        while [ "$1" != -- ]; do
            mount --bind "$1" "$2"
            [ "$3" = rw ] || mount -o remount,bind,ro "$2"
            shift 3
        done
        shift
        "$@" &
        wait $!
        """;

    /// <summary>Without a jail, as whoever runs this program.</summary>
    public static Task<Process> StartBareAsync(FirecrackerOptions options, string vmId, FirecrackerDirectory directory, IReadOnlyList<string> cgroupProcs, IReadOnlyList<PlacedFile> files)
    {
        foreach (var file in files)
        {
            File.CreateSymbolicLink(Path.Combine(directory.RootPath, file.Name), Path.GetFullPath(file.Source));
        }

        return StartAsync([options.Binary, "--id", vmId, "--api-sock", MachineFiles.Api], directory.RootPath, cgroupProcs);
    }

    /// <summary>In a jail, as a user of its own.</summary>
    public static Task<Process> StartJailedAsync(
        FirecrackerOptions options, IReadOnlyList<string> jailer, FirecrackerDirectory directory, IReadOnlyList<string> cgroupProcs, uint userId, IReadOnlyList<PlacedFile> files)
    {
        List<string> command =
        [
            "unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--mount-proc", "--fork", "--kill-child=KILL", "--", "/bin/sh", "-c", Jail, "sandbox-jail",
        ];
        foreach (var file in files)
        {
            var place = Path.Combine(directory.RootPath, file.Name);
            File.Create(place).Dispose();
            if (file.Writable)
            {
                Give(file.Source, userId);
            }

            command.AddRange([Path.GetFullPath(file.Source), place, file.Writable ? "rw" : "ro"]);
        }

        Give(directory.RootPath, userId);
        return StartAsync([.. command, "--", options.Jailer, .. jailer], "/", cgroupProcs);
    }

    /// <summary>Gives a file to a user and a group of the same number.</summary>
    /// <exception cref="IsolationException">The kernel refuses.</exception>
    public static void Give(string path, uint userId)
    {
        if (ChangeOwner(path, userId, userId) != 0)
        {
            throw new IsolationException($"Cannot give {path} to user {userId}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    /// <summary>The same with one that is open: whatever is at its path by now.</summary>
    /// <exception cref="IsolationException">The kernel refuses.</exception>
    public static void Give(SafeFileHandle file, string path, uint userId)
    {
        if (ChangeOwner(file, userId, userId) != 0)
        {
            throw new IsolationException($"Cannot give {path} to user {userId}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    private static Task<Process> StartAsync(IReadOnlyList<string> command, string workingDirectory, IReadOnlyList<string> cgroupProcs)
    {
        var start = new ProcessStartInfo("/bin/sh", ["-c", Join, "sandbox-vmm", .. command])
        {
            WorkingDirectory = workingDirectory,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        start.Environment.Clear();
        start.Environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin";
        start.Environment["SBX_CGROUPS"] = string.Join(' ', cgroupProcs);
        return Spawner.StartAsync(start);
    }

    /// <summary>Not through a link: a root belongs to the machine's user.</summary>
    [LibraryImport("libc", EntryPoint = "lchown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeOwner(string path, uint uid, uint gid);

    [LibraryImport("libc", EntryPoint = "fchown", SetLastError = true)]
    private static partial int ChangeOwner(SafeFileHandle file, uint uid, uint gid);
}
