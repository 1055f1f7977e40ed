using System.ComponentModel;
using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Oci.Hosting;

/// <summary>What a container's root is made of.</summary>
/// <param name="Lower">The image's read-only root.</param>
/// <param name="Disk">The session's disk, a file with ext4.</param>
/// <param name="FirstUserId">The host's id that is root inside.</param>
/// <param name="Owners">The user namespace that says so.</param>
/// <param name="Place">Directory of the container, under which all is mounted.</param>
/// <param name="Hidden">A mount of the host that the runtime must not see, or <see langword="null"/>.</param>
internal sealed record RootLayers(string Lower, string Disk, uint FirstUserId, SafeFileHandle Owners, string Place, string? Hidden);

/// <summary>A runtime that has been started in a mount namespace of its own.</summary>
/// <param name="Process">The runtime. Its standard streams are those of the container.</param>
/// <param name="DiskMount">A descriptor on the session's file system.</param>
/// <param name="LoopDevice">Number of the disk's loop device.</param>
internal sealed record Launched(Process Process, SafeFileHandle DiskMount, int LoopDevice);

/// <summary>
/// Starts a runtime on a root that only it sees. Everything is mounted in a namespace that belongs to one thread, the runtime is started by that thread, and the thread ends: so the mounts live exactly as long
/// as the container, and a crash of this program leaves none of them on the host.
/// </summary>
internal static class ContainerLauncher
{
    /// <summary>Where the root is found, below the container's directory.</summary>
    public static string RootOf(string place) => Path.Combine(place, "root");

    /// <exception cref="IsolationException">Something could not be mounted or started; says what.</exception>
    public static Task<Launched> StartAsync(RootLayers layers, string program, IReadOnlyList<string> arguments)
    {
        var result = new TaskCompletionSource<Launched>(TaskCreationOptions.RunContinuationsAsynchronously);
        var thread = new Thread(() =>
        {
            SafeFileHandle? disk = null;
            try
            {
                Kernel.LeaveMountNamespace();
                if (layers.Hidden is { } hidden)
                {
                    Kernel.Unmount(hidden);
                }

                int device;
                (disk, device) = Mount(layers);
                result.SetResult(new Launched(Start(program, arguments), disk, device));
            }
            catch (Exception e)
            {
                disk?.Dispose();
                result.SetException(e is Win32Exception or IOException or UnauthorizedAccessException ? new IsolationException(e.Message, e) : e);
            }
        })
        { IsBackground = true, Name = "container" };
        thread.Start();
        return result.Task;
    }

    private static (SafeFileHandle Disk, int Device) Mount(RootLayers layers)
    {
        var (lower, plain, mapped, root) = (Below("lower"), Below("plain"), Below("disk"), RootOf(layers.Place));
        foreach (var directory in (string[])[lower, plain, mapped, root])
        {
            Directory.CreateDirectory(directory);
        }

        Kernel.MountMapped(layers.Lower, lower, layers.Owners);
        using var device = LoopDevice.Open(layers.Disk);
        Kernel.Mount(device.Path, plain, "ext4", Kernel.NoSetUid | Kernel.NoDevices | Kernel.NoAccessTimes, "discard");
        Directory.CreateDirectory(Path.Combine(plain, "upper"));
        Directory.CreateDirectory(Path.Combine(plain, "work"));
        File.SetUnixFileMode(Path.Combine(plain, "upper"), (UnixFileMode)0b111_101_101);
        Kernel.MountMapped(plain, mapped, layers.Owners);
        Kernel.AsUser(layers.FirstUserId, () => Kernel.Mount(
            "sandbox", root, "overlay", Kernel.NoSetUid | Kernel.NoDevices | Kernel.NoAccessTimes, $"lowerdir={lower},upperdir={mapped}/upper,workdir={mapped}/work"));
        return (Kernel.OpenDirectory(plain), device.Number);

        string Below(string name) => Path.Combine(layers.Place, name);
    }

    private static Process Start(string program, IReadOnlyList<string> arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = "/" };
        start.Environment.Clear();
        start.Environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        return Process.Start(start)!;
    }
}
