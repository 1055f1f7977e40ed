using System.ComponentModel;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Oci.Hosting;

/// <summary>System calls of Linux that .NET has nothing for.</summary>
internal static unsafe partial class Kernel
{
    public const int NewMountNamespace = 0x20000;
    public const int NewUtsNamespace = 0x4000000;
    public const ulong ReadOnly = 1;
    public const ulong NoSetUid = 2;
    public const ulong NoDevices = 4;
    public const ulong NoAccessTimes = 1024;
    private const ulong RecursivelyPrivate = 0x4000 | 0x40000;
    private const int Detach = 2;
    private const nint SetFsUser = 122;
    private const nint SetFsGroup = 123;
    private const nint GetCapabilities = 125;
    private const nint SetCapabilities = 126;
    private const nint OpenTree = 428;
    private const nint MoveMount = 429;
    private const nint SetMountAttributes = 442;
    private const int CurrentDirectory = -100;
    private const int EmptyPath = 0x1000;
    private const int CloneTree = 1 | 0x80000;
    private const ulong MapIds = 0x100000;

    /// <summary>Gives the calling thread a mount namespace of its own, from which nothing comes back to the others. What it starts is in it too.</summary>
    public static void LeaveMountNamespace()
    {
        Check(Unshare(NewMountNamespace), "make a mount namespace");
        Check(MountRaw(null, "/", null, RecursivelyPrivate, null), "make the mounts of a namespace private");
    }

    /// <exception cref="Win32Exception">The kernel refused it.</exception>
    public static void Mount(string source, string target, string type, ulong flags, string options) =>
        Check(MountRaw(source, target, type, flags, options), $"mount {type} on {target}");

    /// <summary>Takes a mount away at once; what still uses it keeps it. False where there is none.</summary>
    public static bool Unmount(string target) => UnmountRaw(target, Detach) == 0;

    /// <summary>Shows a mount at another place with other owners: the ids that a user namespace maps.</summary>
    /// <exception cref="Win32Exception">The kernel or the file system cannot.</exception>
    public static void MountMapped(string source, string target, SafeFileHandle userNamespace)
    {
        var attributes = stackalloc ulong[4] { MapIds, 0, 0, (ulong)userNamespace.DangerousGetHandle() };
        fixed (byte* from = Text(source), to = Text(target), empty = Text(""))
        {
            var tree = (int)Check(Call(OpenTree, CurrentDirectory, (nint)from, CloneTree, 0, 0), $"clone the mount {source}");
            using var handle = new SafeFileHandle(tree, ownsHandle: true);
            Check(Call(SetMountAttributes, tree, (nint)empty, EmptyPath, (nint)attributes, 32), $"map the owners of {source}");
            Check(Call(MoveMount, tree, (nint)empty, CurrentDirectory, (nint)to, 4), $"put {source} at {target}");
        }
    }

    /// <summary>
    /// Does something with files as another user and group, with all of root's capabilities. An overlay works with the identity of who mounted it, which must be one that its mapped layers know.
    /// </summary>
    public static void AsUser(uint id, Action work)
    {
        var header = stackalloc uint[2] { 0x20080522, 0 };
        var data = stackalloc uint[6];
        Check(Call(GetCapabilities, (nint)header, (nint)data, 0, 0, 0), "read its capabilities");
        _ = Call(SetFsGroup, (nint)id, 0, 0, 0, 0);
        _ = Call(SetFsUser, (nint)id, 0, 0, 0, 0);
        try
        {
            // To leave root took those away that have to do with files.
            Check(Call(SetCapabilities, (nint)header, (nint)data, 0, 0, 0), "keep its capabilities");
            work();
        }
        finally
        {
            _ = Call(SetFsUser, 0, 0, 0, 0, 0);
            _ = Call(SetFsGroup, 0, 0, 0, 0, 0);
            _ = Call(SetCapabilities, (nint)header, (nint)data, 0, 0, 0);
        }
    }

    /// <summary>The calling thread joins a namespace. It can serve nothing else from then on.</summary>
    public static void Join(SafeFileHandle name, int kind) => Check(SetNamespace(name, kind), "join a namespace");

    public static void SetHostName(string name) => Check(SetHostNameRaw(name, (nuint)name.Length), "set a host name");

    /// <summary>Opens a directory.</summary>
    public static SafeFileHandle OpenDirectory(string path) => new((nint)Check(OpenRaw(path, 0x10000 | 0x80000), $"open {path}"), ownsHandle: true);

    /// <summary>Writes a whole file system back.</summary>
    public static void Sync(SafeFileHandle within) => Check(SyncFileSystem(within), "write a file system back");

    /// <summary>Bytes that can be read from a pipe at once.</summary>
    public static int Available(SafeHandle pipe)
    {
        int count;
        return IoControl(pipe, 0x541B, &count) < 0 ? 0 : count;
    }

    /// <summary>Gives a pipe to a user.</summary>
    public static void ChangeOwner(SafeHandle pipe, uint id) => Check(ChangeOwnerRaw(pipe, id, id), "change the owner of a pipe");

    /// <summary>Sends a signal. No such process is no error.</summary>
    public static void Kill(int pid, int signal) => _ = KillRaw(pid, signal);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    public static partial int IoControl(SafeHandle file, nuint operation, void* argument);

    private static byte[] Text(string text) => System.Text.Encoding.UTF8.GetBytes(text + "\0");

    private static nint Check(nint result, string what) =>
        result >= 0 ? result : throw new Win32Exception(Marshal.GetLastPInvokeError(), $"cannot {what}: {Marshal.GetLastPInvokeErrorMessage()}");

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenRaw(string path, int flags);

    [LibraryImport("libc", EntryPoint = "unshare", SetLastError = true)]
    private static partial int Unshare(int flags);

    [LibraryImport("libc", EntryPoint = "setns", SetLastError = true)]
    private static partial int SetNamespace(SafeFileHandle name, int kind);

    [LibraryImport("libc", EntryPoint = "mount", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MountRaw(string? source, string target, string? type, ulong flags, string? options);

    [LibraryImport("libc", EntryPoint = "umount2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int UnmountRaw(string target, int flags);

    [LibraryImport("libc", EntryPoint = "sethostname", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetHostNameRaw(string name, nuint length);

    [LibraryImport("libc", EntryPoint = "syncfs", SetLastError = true)]
    private static partial int SyncFileSystem(SafeFileHandle within);

    [LibraryImport("libc", EntryPoint = "fchown", SetLastError = true)]
    private static partial int ChangeOwnerRaw(SafeHandle file, uint uid, uint gid);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int KillRaw(int pid, int signal);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Call(nint number, nint a, nint b, nint c, nint d, nint e);
}
