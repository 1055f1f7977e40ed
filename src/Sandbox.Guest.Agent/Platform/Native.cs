using System.Runtime.InteropServices;

namespace Sandbox.Guest.Agent.Platform;

/// <summary>The C library, where .NET has nothing to offer. Every call that can fail sets the last P/Invoke error.</summary>
internal static unsafe partial class Native
{
    public const int WriteOnly = 1;
    public const int ReadWrite = 2;
    public const int NoCtty = 0x100;
    public const int CloseOnExec = 0x80000;
    public const int DuplicateCloseOnExec = 1030;
    public const short PollIn = 1;
    public const nuint SetWindowSize = 0x5414;
    public const int NoEntry = 2;
    public const int Interrupted = 4;
    public const int AccessDenied = 13;
    public const int NoSpace = 28;

    /// <summary>Errno of the last call.</summary>
    public static int Errno => Marshal.GetLastPInvokeError();

    /// <summary>Text of an errno, as perror(3) would print it.</summary>
    public static string Describe(int errno) => Marshal.GetPInvokeErrorMessage(errno);

    [LibraryImport("sbxspawn", EntryPoint = "sbx_spawn")]
    public static partial int Spawn(SpawnArguments* arguments, int* stage);

    [LibraryImport("sbxspawn", EntryPoint = "sbx_wait")]
    public static partial void Wait(int pid, ProcessEnd* end);

    [LibraryImport("sbxspawn", EntryPoint = "sbx_ended_child")]
    public static partial int EndedChild();

    [LibraryImport("sbxspawn", EntryPoint = "sbx_bury")]
    public static partial void Bury(int pid);

    [LibraryImport("sbxspawn", EntryPoint = "sbx_available")]
    public static partial int Available(int fd);

    // These return a negated errno.
    [LibraryImport("sbxspawn", EntryPoint = "sbx_remove", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Remove(string path, int recursive);

    [LibraryImport("sbxspawn", EntryPoint = "sbx_open_regular", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int OpenRegular(string path, int flags, uint mode);

    [LibraryImport("sbxspawn", EntryPoint = "sbx_rename", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Rename(string from, string to, int overwrite);

    [LibraryImport("sbxspawn", EntryPoint = "sbx_make_directory", StringMarshalling = StringMarshalling.Utf8)]
    public static partial int MakeDirectory(string path, uint mode);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Open(string path, int flags, int mode);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    public static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "dup2", SetLastError = true)]
    public static partial int DuplicateTo(int fd, int target);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    public static partial nint Read(int fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    public static partial nint Write(int fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    public static partial nint Read(SafeHandle fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    public static partial nint Write(SafeHandle fd, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    public static partial int OpenSocket(int family, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
    public static partial int Bind(int socket, VsockAddress* address, uint length);

    [LibraryImport("libc", EntryPoint = "listen", SetLastError = true)]
    public static partial int Listen(int socket, int backlog);

    [LibraryImport("libc", EntryPoint = "accept4", SetLastError = true)]
    public static partial int Accept(int socket, VsockAddress* peer, uint* length, int flags);

    [LibraryImport("libc", EntryPoint = "shutdown", SetLastError = true)]
    public static partial int Shutdown(int socket, int how);

    [LibraryImport("libc", EntryPoint = "pipe2", SetLastError = true)]
    public static partial int Pipe(int* fds, int flags);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    public static partial int Poll(PollRequest* requests, nuint count, int timeoutMs);

    [LibraryImport("libc", EntryPoint = "eventfd", SetLastError = true)]
    public static partial int EventFd(uint value, int flags);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    public static partial int FileControl(int fd, int command, int argument);

    [LibraryImport("libc", EntryPoint = "fchown", SetLastError = true)]
    public static partial int ChangeOwner(int fd, uint uid, uint gid);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    public static partial int Kill(int pid, int signal);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    public static partial int IoControl(int fd, nuint request, void* argument);

    [LibraryImport("libc", EntryPoint = "posix_openpt", SetLastError = true)]
    public static partial int OpenPty(int flags);

    [LibraryImport("libc", EntryPoint = "grantpt", SetLastError = true)]
    public static partial int GrantPty(int fd);

    [LibraryImport("libc", EntryPoint = "unlockpt", SetLastError = true)]
    public static partial int UnlockPty(int fd);

    [LibraryImport("libc", EntryPoint = "ptsname_r", SetLastError = true)]
    public static partial int PtyName(int fd, byte* buffer, nuint size);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    public static partial nint SystemCall(nint number, nint a, nint b, nint c);

    [LibraryImport("libc", EntryPoint = "geteuid")]
    public static partial uint EffectiveUser();

    [LibraryImport("libc", EntryPoint = "getegid")]
    public static partial uint EffectiveGroup();

    [LibraryImport("libc", EntryPoint = "sethostname", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SetHostName(string name, nuint length);

    [LibraryImport("libc", EntryPoint = "clock_settime", SetLastError = true)]
    public static partial int SetClock(int clock, TimeSpec* time);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    public static partial int FileSync(int fd);

    [LibraryImport("libc", EntryPoint = "sync")]
    public static partial void Sync();

    [LibraryImport("libc", EntryPoint = "statvfs", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int StatFileSystem(string path, FileSystemStat* stat);

    [LibraryImport("libc", EntryPoint = "inotify_init1", SetLastError = true)]
    public static partial int InotifyInit(int flags);

    [LibraryImport("libc", EntryPoint = "inotify_add_watch", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int InotifyAdd(int fd, string path, uint mask);

    [LibraryImport("libc", EntryPoint = "inotify_rm_watch", SetLastError = true)]
    public static partial int InotifyRemove(int fd, int watch);

    [LibraryImport("libc", EntryPoint = "fsetxattr", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int SetAttribute(int fd, string name, byte* value, nuint size, int flags);

    // The names or the value of what a path leads to, or (those with Link) of a symbolic link itself.
    [LibraryImport("libc", EntryPoint = "listxattr", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint ListAttributes(string path, byte* names, nuint size);

    [LibraryImport("libc", EntryPoint = "llistxattr", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint ListLinkAttributes(string path, byte* names, nuint size);

    [LibraryImport("libc", EntryPoint = "getxattr", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint GetAttribute(string path, string name, byte* value, nuint size);

    [LibraryImport("libc", EntryPoint = "lgetxattr", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial nint GetLinkAttribute(string path, string name, byte* value, nuint size);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int Stat(int directory, string path, int flags, uint mask, StatX* stat);
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct SpawnArguments
{
    public byte** Candidates;
    public byte** Argv;
    public byte** ShellArgv;
    public byte** Envp;
    public byte* Cwd;
    public byte* CgroupProcs;
    public byte* OomScore;
    public uint* Groups;
    public int* Fds;
    public int FdCount;
    public int Cgroup;
    public int ControllingTty;
    public int SetUser;
    public uint Uid;
    public uint Gid;
    public int GroupCount;
    public int DropCapabilities;
}

/// <summary>How a process ended and what it used, its waited-for children included.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct ProcessEnd
{
    public int ExitCode;
    public int Signal;
    public long CpuMilliseconds;
    public long PeakBytes;
}

[StructLayout(LayoutKind.Sequential)]
internal struct PollRequest
{
    public int Fd;
    public short Events;
    public short Returned;
}

/// <summary>struct sockaddr_vm of Linux.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct VsockAddress
{
    public ushort Family;
    public ushort Reserved;
    public uint Port;
    public uint Address;
    public uint Flags;
}

[StructLayout(LayoutKind.Sequential)]
internal struct TimeSpec
{
    public long Seconds;
    public long Nanoseconds;
}

[StructLayout(LayoutKind.Sequential)]
internal unsafe struct FileSystemStat
{
    public ulong BlockSize;
    public ulong FragmentSize;
    public ulong Blocks;
    public ulong Free;
    public ulong Available;
    public ulong Files;
    public ulong FilesFree;
    public ulong FilesAvailable;
    public ulong Id;
    public ulong Flags;
    public ulong MaxName;
    public fixed int Spare[6];
}

/// <summary>struct statx of Linux: the only stat whose layout is the same everywhere.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct StatX
{
    public uint Mask;
    public uint BlockSize;
    public ulong Attributes;
    public uint Links;
    public uint Uid;
    public uint Gid;
    public ushort Mode;
    public ushort Spare0;
    public ulong Inode;
    public ulong Size;
    public ulong Blocks;
    public ulong AttributesMask;
    public long AccessSeconds;
    public uint AccessNanoseconds;
    public int Spare1;
    public long BirthSeconds;
    public uint BirthNanoseconds;
    public int Spare2;
    public long ChangeSeconds;
    public uint ChangeNanoseconds;
    public int Spare3;
    public long ModifySeconds;
    public uint ModifyNanoseconds;
    public int Spare4;
    public fixed ulong Rest[16];
}
