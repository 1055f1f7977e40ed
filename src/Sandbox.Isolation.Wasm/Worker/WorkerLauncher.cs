using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Wasm.Worker;

/// <summary>
/// Starts the worker: a shell joins the cgroups, becomes setsid, setpriv (dies with us) and unshare (no network, its own processes and mounts) in turn; inside, a second one puts together a root
/// directory of nothing but the runtime, the worker, the images and the worker's own directory, and becomes chroot, setpriv (no privileges) and the worker.
/// </summary>
internal static partial class WorkerLauncher
{
    /// <summary>Where the worker finds things, when it has a root directory of its own.</summary>
    public const string ImagesInside = "/images";

    private const string Outer =
        """
        set -e
        for procs in $SBX_CGROUPS; do echo $$ >"$procs"; done
        unset SBX_CGROUPS
        exec setsid setpriv --pdeathsig KILL -- "$@"
        """;

    /// <summary>Only this process tree sees the mounts. $1 is the user id, the rest the worker's arguments.</summary>
    private const string Inner =
        """
        set -e
        root="$SBX_RUN/root"
        mount --make-rprivate /
        mkdir -p "$root"
        mount -t tmpfs -o mode=755,nosuid,nodev,size=1m sandbox "$root"
        cd "$root"
        mkdir -p proc dev tmp run cache dotnet worker images etc usr
        for directory in bin lib lib64 sbin; do
            if [ -L "/$directory" ]; then ln -s "$(readlink "/$directory")" "$directory"
            elif [ -d "/$directory" ]; then mkdir "$directory"; mount --bind -o ro,nosuid "/$directory" "$directory"; fi
        done
        mount --bind -o ro,nosuid /usr usr
        mount --bind -o ro,nosuid,nodev "$SBX_DOTNET" dotnet
        mount --bind -o ro,nosuid,nodev "$SBX_WORKER" worker
        mount --bind -o ro,nosuid,nodev "$SBX_IMAGES" images
        mount --bind -o nosuid,nodev,noexec "$SBX_RUN/own" run
        mount --bind -o nosuid,nodev "$SBX_CACHE" cache
        mount -t proc -o nosuid,nodev,noexec proc proc
        mount -t tmpfs -o mode=1777,nosuid,nodev,noexec,size=16m sandbox tmp
        for device in null zero urandom; do : >"dev/$device"; mount --bind "/dev/$device" "dev/$device"; done
        mount -o remount,ro sandbox "$root"
        uid="$1"; shift
        unset SBX_RUN SBX_DOTNET SBX_WORKER SBX_IMAGES SBX_CACHE
        exec chroot "$root" /usr/bin/setpriv --reuid "$uid" --regid "$uid" --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all --pdeathsig KILL -- \
            /dotnet/dotnet /worker/wasm-worker.dll "$@"
        """;

    /// <summary>Where the runtime that runs this program is: the worker is run by the same.</summary>
    private static string DotnetRoot => Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", ".."));

    /// <summary>Starts the program with arguments: <c>serve</c> or <c>probe</c>.</summary>
    /// <param name="options">Where everything is.</param>
    /// <param name="directory">The worker's directory, which exists.</param>
    /// <param name="cache">Where its compiled modules go, which exists.</param>
    /// <param name="cgroupProcs">Files to write its process id to.</param>
    /// <param name="userId">Whom it runs as; <see langword="null"/>: as this program, without a root directory of its own.</param>
    /// <param name="command">The command; paths in it are made for where the worker sees them.</param>
    public static async Task<Process> StartAsync(WasmOptions options, string directory, string cache, IReadOnlyList<string> cgroupProcs, uint? userId, string command)
    {
        var own = Path.Combine(directory, "own");
        var start = new ProcessStartInfo("/bin/sh") { WorkingDirectory = "/", RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        start.Environment.Clear();
        foreach (var (name, value) in (IEnumerable<(string, string)>)
        [
            ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("HOME", "/tmp"), ("SBX_CGROUPS", string.Join(' ', cgroupProcs)), ("SBX_RUN", directory), ("SBX_DOTNET", DotnetRoot),
            ("SBX_WORKER", options.WorkerDirectory), ("SBX_IMAGES", options.ImageRoot), ("SBX_CACHE", cache),
            ("DOTNET_EnableDiagnostics", "0"), ("DOTNET_ROOT", userId is null ? DotnetRoot : "/dotnet"), ("DOTNET_TieredPGO", "0"), ("DOTNET_gcConserveMemory", "5"),

            // A guest that makes the worker hold too much meets an exception, before all meet the kernel.
            ("DOTNET_GCHeapHardLimit", "0x40000000"),
        ])
        {
            start.Environment[name] = value;
        }

        List<string> arguments = ["-c", Outer, "sandbox-wasm"];
        if (userId is { } uid)
        {
            var id = uid.ToString(CultureInfo.InvariantCulture);
            Own(own, uid);
            Own(cache, uid);
            arguments.AddRange(["unshare", "--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child=KILL", "--", "/bin/sh", "-c", Inner, "sandbox-wasm", id]);
            arguments.AddRange(command == "serve" ? ["serve", "/run/control", "/cache"] : [command]);
        }
        else
        {
            arguments.AddRange(["setpriv", "--no-new-privs", "--", Path.Combine(DotnetRoot, "dotnet"), Path.Combine(options.WorkerDirectory, "wasm-worker.dll")]);
            arguments.AddRange(command == "serve" ? ["serve", Path.Combine(own, "control"), cache] : [command]);
        }

        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        return await Spawner.StartAsync(start).ConfigureAwait(false);
    }

    private static void Own(string path, uint uid)
    {
        if (ChangeOwner(path, uid, uid) != 0)
        {
            throw new IsolationException($"Cannot give {path} to user {uid}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    [LibraryImport("libc", EntryPoint = "chown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int ChangeOwner(string path, uint uid, uint gid);
}
