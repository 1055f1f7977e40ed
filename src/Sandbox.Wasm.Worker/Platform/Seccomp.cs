using System.Runtime.InteropServices;

namespace Sandbox.Wasm.Worker.Platform;

/// <summary>
/// Takes system calls away from this process, all its threads and its children: those that neither the runtime nor the engine makes and that an escaped guest would want. A list of what is forbidden
/// and not of what is allowed, because the runtime's own needs change with every release; it comes on top of namespaces, an own user and no capabilities.
/// </summary>
internal static unsafe partial class Seccomp
{
    private const int NoNewPrivileges = 38;
    private const nint SeccompCall = 317;
    private const uint SetModeFilter = 1;
    private const uint ThreadSync = 1;
    private const uint Allow = 0x7fff0000;
    private const uint KillProcess = 0x80000000;
    private const uint NotPermitted = 0x00050000 | 1;
    private const uint X64 = 0xc000003e;
    private const uint X32Bit = 0x40000000;

    /// <summary>By number, x86-64.</summary>
    private static readonly uint[] Forbidden =
    [
        42, 49, 50,                                             // connect, bind, listen
        101, 310, 311, 312, 438, 440,                           // ptrace, process_vm_readv, process_vm_writev, kcmp, pidfd_getfd, process_madvise
        134, 136, 139, 153, 155, 156, 159, 161, 163,            // uselib, ustat, sysfs, vhangup, pivot_root, _sysctl, adjtimex, chroot, acct
        164, 165, 166, 167, 168, 169, 170, 171, 172, 173,       // settimeofday, mount, umount2, swapon, swapoff, reboot, sethostname, setdomainname, iopl, ioperm
        174, 175, 176, 177, 178, 179, 180, 246, 313, 320,       // create_module, init_module, delete_module, …, quotactl, nfsservctl, kexec_load, finit_module, kexec_file_load
        212, 227, 237, 238, 239, 256, 279,                      // lookup_dcookie, clock_settime, mbind, set_mempolicy, get_mempolicy, migrate_pages, move_pages
        248, 249, 250,                                          // add_key, request_key, keyctl
        272, 308,                                               // unshare, setns
        298, 300, 301, 303, 304, 321, 323,                      // perf_event_open, fanotify_init, fanotify_mark, name_to_handle_at, open_by_handle_at, bpf, userfaultfd
        425, 426, 427,                                          // io_uring_setup, io_uring_enter, io_uring_register
        428, 429, 430, 431, 432, 433, 442,                      // open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, mount_setattr
        29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240, 241, 242,  // shared memory, semaphores and message queues of System V and POSIX
    ];

    /// <summary>What a process that only compiles has no use for besides: sockets of any kind.</summary>
    private static readonly uint[] ForCompilers = [41, 53, 288];

    /// <summary>Sets the filter. Says why not, where it cannot be.</summary>
    /// <param name="serves">Whether this process serves connections, whose socket is bound and listens already.</param>
    public static string? Confine(bool serves)
    {
        uint[] forbidden = serves ? Forbidden : [.. Forbidden, .. ForCompilers];
        var program = new Instruction[6 + (forbidden.Length * 2)];
        var n = 0;
        program[n++] = new Instruction(0x20, 0, 0, 4);                      // the architecture
        program[n++] = new Instruction(0x15, 1, 0, X64);
        program[n++] = new Instruction(0x06, 0, 0, KillProcess);
        program[n++] = new Instruction(0x20, 0, 0, 0);                      // the number
        program[n++] = new Instruction(0x35, (byte)0, 1, X32Bit);           // the other table of calls has everything again
        program[n++] = new Instruction(0x06, 0, 0, NotPermitted);
        foreach (var call in forbidden)
        {
            program[n++] = new Instruction(0x15, 0, 1, call);
            program[n++] = new Instruction(0x06, 0, 0, NotPermitted);
        }

        Instruction[] whole = [.. program, new Instruction(0x06, 0, 0, Allow)];
        fixed (Instruction* first = whole)
        {
            var filter = new Filter { Length = (ushort)whole.Length, Instructions = first };
            return ProcessControl(NoNewPrivileges, 1, 0, 0, 0) != 0 ? $"prctl: {Marshal.GetLastPInvokeErrorMessage()}"
                : Call(SeccompCall, SetModeFilter, ThreadSync, &filter) != 0 ? $"seccomp: {Marshal.GetLastPInvokeErrorMessage()}"
                : null;
        }
    }

    [LibraryImport("libc", EntryPoint = "prctl", SetLastError = true)]
    private static partial int ProcessControl(int option, nuint a, nuint b, nuint c, nuint d);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial nint Call(nint number, nuint operation, nuint flags, Filter* filter);

    private readonly struct Instruction(ushort code, byte ifTrue, byte ifFalse, uint value)
    {
        public readonly ushort Code = code;
        public readonly byte IfTrue = ifTrue;
        public readonly byte IfFalse = ifFalse;
        public readonly uint Value = value;
    }

    private struct Filter
    {
        public ushort Length;
        public Instruction* Instructions;
    }
}
