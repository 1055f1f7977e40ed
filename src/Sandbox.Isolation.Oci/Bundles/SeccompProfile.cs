using System.Text.Json.Nodes;

namespace Sandbox.Isolation.Oci.Bundles;

/// <summary>
/// The system calls that a container on the host's kernel may make. It starts from refusing everything (EPERM) and allows what programs need; a call that a future kernel brings is refused until somebody has
/// thought about it. x86-64 alone: the 32-bit and x32 entries have other numbers for the same calls.
/// </summary>
/// <remarks>
/// Deliberately left out:
/// <list type="bullet">
/// <item>namespaces and mounts (<c>unshare</c>, <c>setns</c>, <c>mount</c> and its new kin, <c>umount2</c>, <c>pivot_root</c>, <c>chroot</c>; <c>clone</c> with their flags): the key to parts of the kernel that expect root;</item>
/// <item><c>ptrace</c>, <c>process_vm_readv</c>, <c>process_vm_writev</c>, <c>process_madvise</c>, <c>pidfd_getfd</c>, <c>kcmp</c>: looking into other processes. Debuggers do not work;</item>
/// <item><c>bpf</c>, <c>perf_event_open</c>, <c>userfaultfd</c>, <c>io_uring_*</c>, <c>io_submit</c> and its kin: each has been a way into the kernel more than once, and programs do without;</item>
/// <item><c>keyctl</c>, <c>add_key</c>, <c>request_key</c>: keyrings know no namespaces but the user's;</item>
/// <item>modules, kexec, reboot, swap, quotas, accounting, clocks, <c>syslog</c>, <c>iopl</c>, <c>nfsservctl</c>, <c>lookup_dcookie</c>: the machine is not theirs;</item>
/// <item><c>open_by_handle_at</c>, <c>name_to_handle_at</c>, <c>fanotify_init</c>: files by numbers instead of by paths, past what is mounted;</item>
/// <item><c>mbind</c>, <c>set_mempolicy</c>, <c>move_pages</c>, <c>migrate_pages</c>: placing memory on nodes is the host's business;</item>
/// <item>sockets of other families than unix, IPv4, IPv6 and routing netlink: packet, vsock, Bluetooth, AF_ALG and the like;</item>
/// <item><c>personality</c> other than asking and going back to the default, <c>vhangup</c>, <c>modify_ldt</c>, <c>uselib</c>, <c>remap_file_pages</c>, <c>quotactl</c>, and <c>ioctl</c> that types into a terminal (TIOCSTI, TIOCLINUX).</item>
/// </list>
/// <c>clone3</c> hides its flags in memory where a filter cannot see them; it is answered as if it did not exist, and libraries fall back to <c>clone</c>.
/// </remarks>
internal static class SeccompProfile
{
    private const int NotPermitted = 1;
    private const int NoSuchCall = 38;

    /// <summary>TIOCSTI and TIOCLINUX.</summary>
    private const uint SimulateTerminalInput = 0x5412;
    private const uint LinuxConsole = 0x541C;

    /// <summary>New cgroup, UTS, IPC, user, PID, network, mount and time namespaces.</summary>
    private const ulong NewNamespaces = 0x7E020080;

    private static readonly string[] Files =
    [
        "access", "chdir", "chmod", "chown", "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2",
        "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futimesat", "getcwd", "getdents", "getdents64", "getxattr",
        "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "lchown", "lgetxattr", "link", "linkat", "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "memfd_create", "mkdir",
        "mkdirat", "mknod", "mknodat", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv",
        "removexattr", "rename", "renameat", "renameat2", "rmdir", "sendfile", "setxattr", "splice", "stat", "statfs", "statx", "symlink", "symlinkat", "sync", "sync_file_range", "syncfs", "tee", "truncate", "umask",
        "unlink", "unlinkat", "utime", "utimensat", "utimes", "vmsplice", "write", "writev",
    ];

    private static readonly string[] Waiting =
    [
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait", "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "poll", "ppoll", "pselect6", "select", "signalfd", "signalfd4",
        "timerfd_create", "timerfd_gettime", "timerfd_settime",
    ];

    private static readonly string[] Memory =
    [
        "brk", "get_mempolicy", "madvise", "membarrier", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
    ];

    private static readonly string[] Processes =
    [
        "alarm", "arch_prctl", "capget", "capset", "clock_getres", "clock_gettime", "clock_nanosleep", "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake",
        "get_robust_list", "getcpu", "getegid", "geteuid", "getgid", "getgroups", "getitimer", "getpgid", "getpgrp", "getpid", "getppid", "getpriority", "getrandom", "getresgid", "getresuid", "getrlimit", "getrusage",
        "getsid", "gettid", "gettimeofday", "getuid", "ioprio_get", "ioprio_set", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "nanosleep", "pause", "pidfd_open", "pidfd_send_signal",
        "prctl", "prlimit64", "restart_syscall", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max",
        "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler",
        "sched_yield", "seccomp", "set_robust_list", "set_tid_address", "setfsgid", "setfsuid", "setgid", "setgroups", "setitimer", "setpgid", "setpriority", "setregid", "setresgid", "setresuid", "setreuid", "setrlimit",
        "setsid", "setuid", "sigaltstack", "sysinfo", "tgkill", "time", "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "times", "tkill", "uname", "vfork", "wait4", "waitid",
    ];

    private static readonly string[] Communication =
    [
        "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl", "msgget", "msgrcv",
        "msgsnd", "recvfrom", "recvmmsg", "recvmsg", "semctl", "semget", "semop", "semtimedop", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shmat", "shmctl", "shmdt", "shmget", "shutdown",
    ];

    /// <summary>The profile, as <c>linux.seccomp</c> has it.</summary>
    public static JsonObject ToJson()
    {
        const int Unix = 1, Inet = 2, Inet6 = 10, Netlink = 16, Routing = 0;
        const ulong CallerAsks = 0xFFFF_FFFF, NotRandomised = 0x0004_0000;
        return new JsonObject
        {
            ["defaultAction"] = "SCMP_ACT_ERRNO",
            ["defaultErrnoRet"] = NotPermitted,
            ["architectures"] = new JsonArray("SCMP_ARCH_X86_64"),
            ["syscalls"] = new JsonArray([
                Allow([.. Files, .. Waiting, .. Memory, .. Processes, .. Communication]),
                Allow(["clone"], Argument(0, NewNamespaces, "SCMP_CMP_MASKED_EQ", 0)),
                Allow(["socket"], Argument(0, Unix)),
                Allow(["socket"], Argument(0, Inet)),
                Allow(["socket"], Argument(0, Inet6)),
                Allow(["socket"], Argument(0, Netlink), Argument(2, Routing)),
                Allow(["socketpair"], Argument(0, Unix)),
                Allow(["personality"], Argument(0, 0)),
                Allow(["personality"], Argument(0, CallerAsks)),
                Allow(["personality"], Argument(0, NotRandomised)),
                new JsonObject { ["names"] = new JsonArray("clone3"), ["action"] = "SCMP_ACT_ERRNO", ["errnoRet"] = NoSuchCall },
                .. OtherThan(SimulateTerminalInput, LinuxConsole)]),
        };
    }

    /// <summary>
    /// Allows ioctl with all operations but two. A rule cannot say "neither": of several conditions on one argument one suffices. And the kernel looks at the low 32 bits alone, so that "not equal" would be
    /// met by setting a higher one. So each rule allows what differs in one bit that both have in common; what agrees in all of those is allowed by name.
    /// </summary>
    private static IEnumerable<JsonNode> OtherThan(uint first, uint second)
    {
        var apart = first ^ second;
        for (var bit = 1UL; bit <= 0x8000_0000; bit <<= 1)
        {
            if ((apart & bit) == 0)
            {
                yield return Allow(["ioctl"], Argument(1, bit, "SCMP_CMP_MASKED_EQ", bit & ~(ulong)first));
            }
        }

        for (var variant = apart; ; variant = (variant - 1) & apart)
        {
            var operation = (first & ~apart) | variant;
            if (operation != first && operation != second)
            {
                yield return Allow(["ioctl"], Argument(1, uint.MaxValue, "SCMP_CMP_MASKED_EQ", operation));
            }

            if (variant == 0)
            {
                yield break;
            }
        }
    }

    private static JsonObject Allow(string[] names, params JsonObject[] arguments)
    {
        var rule = new JsonObject { ["names"] = new JsonArray([.. names.Select(n => (JsonNode)JsonValue.Create(n))]), ["action"] = "SCMP_ACT_ALLOW" };
        if (arguments.Length > 0)
        {
            rule["args"] = new JsonArray([.. arguments]);
        }

        return rule;
    }

    private static JsonObject Argument(int index, ulong value, string op = "SCMP_CMP_EQ", ulong? masked = null)
    {
        var argument = new JsonObject { ["index"] = index, ["value"] = value, ["op"] = op };
        if (masked is { } expected)
        {
            argument["valueTwo"] = expected;
        }

        return argument;
    }
}
