using Sandbox.Isolation.TestSupport;

namespace Sandbox.Conformance.Attacks;

/// <summary>What is tried. <c>$MARK</c> is a secret that only the neighbour and the host have, <c>$PORT</c> a port that listens on all of the host's addresses, <c>$HOSTS</c> those addresses.</summary>
internal static class AllAttacks
{
    /// <summary>Ids of processes that are the guest agent, as far as they can be seen.</summary>
    private const string AgentPids = "for p in /proc/[0-9]*; do case \"$(cat $p/comm 2>/dev/null)\" in agent*) echo ${p#/proc/};; esac; done";

    private const string Syscall = """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        def call(name, *a):
            ctypes.set_errno(0)
            r = libc.syscall(*a)
            print(name, 'done' if r >= 0 else os.strerror(ctypes.get_errno()))
            return r

        """;

    public static IReadOnlyList<Attack> List { get; } =
    [
        // What exhausts.
        new("CPU loop", "keeps every core busy for ever", r => r.Exited.TimedOut ? "ended at its time limit" : "")
        {
            Shell = "for i in 1 2 3 4; do while :; do :; done & done; wait", Python = "while True: pass", Seconds = 3,
        },
        new("memory", "takes memory until there is none", r => r.Exited.OutOfMemory ? "killed at the memory limit" : r.Error?.Name == "MemoryError" ? "MemoryError at the limit" : r.Exited.ContextLost || r.Exited.Signal == 9 ? "killed at the memory limit" : r.Exited.ExitCode != 0 ? "refused at the limit" : "")
        {
            Shell = "exec python3 -c 'b = []\nwhile True: b.append(bytearray(8 << 20))'", Python = "b = []\nwhile True: b.append(bytearray(8 << 20))", Seconds = 60, Spoils = true,
        },
        new("fork bomb", "doubles itself for ever", r => r.Exited.PidsLimitHit ? "stopped at the process limit" : r.Exited.TimedOut ? "slowed by its limits, ended at its time" : r.Exited.ExitCode != 0 || r.Exited.Signal != 0 ? "ended by its limits" : "")
        {
            Shell = "bomb() { bomb | bomb & }; bomb; sleep 30", Seconds = 5,
        },
        new("disk", "writes until the disk is full", r => r.Exited.DiskFull || r.Stdout.Contains("No space", StringComparison.Ordinal) ? "ENOSPC at the disk's size" : "")
        {
            Shell = "dd if=/dev/zero of=$HOME/fill bs=1M 2>&1; df -m $HOME | tail -1; exit 1",
            Python = "try:\n    f = open('fill', 'wb')\n    while True: f.write(bytes(1 << 20))\nexcept OSError as e: print('No space' if e.errno in (28, 122) else e)",
            Seconds = 60, Spoils = true,
        },
        new("inodes", "makes empty files until there are no more", r => Has(r, "No space") ? "ENOSPC at the disk's limit" : r.Exited.TimedOut ? "still going at its time limit" : "")
        {
            Shell = "mkdir -p $HOME/inodes; exec python3 -c 'import os, sys\nos.chdir(os.path.expanduser(\"~/inodes\"))\ntry:\n    for i in range(2000000): open(str(i), \"w\").close()\nexcept OSError as e: print(e.strerror); sys.exit(1)'",
            Python = "import os\nos.makedirs('inodes', exist_ok=True)\ntry:\n    for i in range(2000000): open('inodes/%d' % i, 'w').close()\nexcept OSError as e: print('No space' if e.errno in (28, 122) else e)",
            Seconds = 10, Spoils = true,
        },
        new("sparse file", "claims a file of 10 TB", r => Has(r, "refused") ? "refused at the file system's limit" : Has(r, "made") ? "takes no space until it is written, and then the disk's" : "")
        {
            Shell = "truncate -s 10T $HOME/sparse && echo made || echo refused", Python = "try:\n    f = open('sparse', 'wb'); f.truncate(10 << 40); print('made')\nexcept OSError: print('refused')", Spoils = true,
        },

        // The agent.
        new("kill the agent", "kills what the host talks to, as the user", r => Has(r, "not permitted") || Has(r, "nobody") ? "not permitted, or not to be seen" : "")
        {
            Shell = $"pids=$({AgentPids}); [ -n \"$pids\" ] || echo nobody; for p in $pids; do kill -9 $p 2>&1; done; true",
        },
        new("kill the agent as root", "kills what the host talks to, as root in the guest", _ => "the session goes on or ends and says so") { Shell = $"kill -9 1; for p in $({AgentPids}); do kill -9 $p; done; true", User = "root" },
        new("ptrace the agent", "attaches to the agent and reads its memory, as the user", r => Has(r, "attach done") ? "" : Has(r, "attach") ? "refused by the kernel" : Has(r, "nobody") ? "cannot be seen" : "")
        {
            Shell = $"pids=$({AgentPids}); [ -n \"$pids\" ] || echo nobody; for p in $pids; do python3 -c \"{Escaped(Syscall)}call('attach', 101, 16, $p, 0, 0)\"; (exec 3</proc/$p/mem) 2>/dev/null && echo 'attach done'; done; true",
        },
        new("stop the agent", "sends it SIGSTOP as the user", r => Has(r, "not permitted") || Has(r, "nobody") ? "not permitted, or not to be seen" : "")
        {
            Shell = $"pids=$({AgentPids}); [ -n \"$pids\" ] || echo nobody; for p in $pids; do kill -STOP $p 2>&1; done; true",
        },
        new("forged frames", "writes rubbish into the host's channel, as the user", r => Has(r, "wrote") ? "" : "cannot be opened")
        {
            Shell = "for p in /dev/vport* /run/sandbox/* /var/run/sandbox/*; do [ -e $p ] && head -c 100000 /dev/urandom > $p && echo wrote; done 2>/dev/null; true",
        },
        new("forged frames as root", "writes rubbish into the host's channel, as root in the guest", _ => "the host drops the channel; the session goes on or ends and says so")
        {
            Shell = "for p in /dev/vport*; do [ -e $p ] && head -c 2000000 /dev/urandom > $p & done 2>/dev/null; sleep 2; true", User = "root", Seconds = 10,
        },
        new("signals and terminals", "kills everything it may, takes its terminal away, leaves orphans", r => r.Exited.Signal != 0 || r.Exited.ExitCode != 0 || r.Exited.TimedOut || Has(r, "over") ? "ends itself only" : "")
        {
            Shell = "setsid sleep 3 & trap '' TERM HUP; kill -HUP -1 2>/dev/null; kill -TERM -1 2>/dev/null; echo over", Seconds = 5,
        },

        // The kernel.
        new("mount and namespaces", "mounts over the system, makes namespaces of its own and mounts there", _ => "refused, or in the guest's own kernel")
        {
            Shell = "mount -t tmpfs sandbox-attack /mnt 2>&1; mount --bind /proc /mnt 2>&1; unshare -Urmpf --mount-proc sh -c 'mount -t tmpfs sandbox-attack /mnt' 2>&1; true", User = "root", Spoils = true,
        },
        new("/proc and /sys", "writes to the kernel's switches as root", _ => "refused, or in the guest's own kernel")
        {
            Shell = "echo '|/tmp/sandbox-attack' > /proc/sys/kernel/core_pattern; echo sandbox-attack > /proc/sys/kernel/hostname; echo 1 > /proc/sys/kernel/sysrq; echo c > /sys/power/state; true", User = "root",
        },
        new("device nodes", "makes nodes of the host's disks and memory and searches them for another's secret", r => Has(r, "found") ? "" : "no node, or nothing of the host behind it")
        {
            Shell = "cd /tmp; mknod sda b 8 0; mknod vda b 254 0; for d in sda vda /dev/sda /dev/vda; do timeout 3 head -c 50000000 $d | grep -c $MARK | grep -qv '^0' && echo found; done 2>/dev/null; true", User = "root",
        },
        new("kernel modules", "loads a module as root", r => Has(r, "finit done") || Has(r, "init done") ? "in the guest's own kernel" : "refused")
        {
            Shell = $"python3 -c \"{Escaped(Syscall)}call('init', 175, b'x' * 64, 64, b'')\ncall('finit', 313, 0, b'', 0)\"; true", User = "root", OwnKernelOnly = " done",
        },
        new("dangerous calls", "bpf, keyctl, io_uring, userfaultfd, perf, kexec, reboot, swapon as the user", r => Lines(r).Count(l => l.EndsWith(" done", StringComparison.Ordinal)) is var n && n == 0 ? "all refused" : $"{n} allowed, by the guest's own kernel")
        {
            Shell = $"python3 -c \"{Escaped(Syscall)}call('bpf', 321, 0, 0, 0)\ncall('keyctl', 250, 0, -3, 1)\ncall('io_uring', 425, 4, 0)\ncall('userfaultfd', 323, 0)\ncall('perf', 298, 0, 0, -1, -1, 0)\ncall('kexec', 246, 0, 0, 0, 0)\ncall('reboot', 169, 0, 0, 0, 0)\ncall('swapon', 167, b'/tmp/x', 0)\"", OwnKernelOnly = " done",
        },
        new("setuid", "makes a set-user-id shell and runs it", r => Has(r, "\n0\n") || r.Stdout.StartsWith("0\n", StringComparison.Ordinal) ? "" : "stays who it is")
        {
            Shell = "cp /bin/bash /tmp/suid; chmod 4755 /tmp/suid; /tmp/suid -p -c 'id -u'; find /bin/ /usr/bin /usr/sbin -perm -4000 -user root -type f 2>/dev/null | head -3 | while read f; do $f -c 'id -u' </dev/null 2>/dev/null; done; true",
        },
        new("core dumps", "dies with a core, with the limit lifted", r => r.Exited.Signal == 11 || r.Exited.ExitCode is 139 ? "no core on the host" : "")
        {
            Shell = "ulimit -c unlimited; cd /tmp; kill -SEGV $$",
        },
        new("clock", "sets the clock to the year 2000, as root", _ => "refused, or the guest's own clock") { Shell = "date -s 2000-01-01; true", User = "root" },
        new("rm -rf /", "removes everything it can, as root", _ => "its own layer only: the image is read-only") { Shell = "rm -rf --no-preserve-root / 2>/dev/null; true", User = "root", Seconds = 8, Spoils = true },

        // Others.
        new("raw sockets", "sends raw packets, as root", r => Has(r, "sent") ? "sent to its own door, which drops and counts it" : "refused, or there is no interface")
        {
            Shell = "python3 -c \"import socket\ntry:\n    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0)); s.send(bytes(60)); print('sent')\nexcept Exception as e: print(type(e).__name__)\"; true", User = "root",
        },
        new("cloud metadata", "asks 169.254.169.254 for credentials", r => Has(r, "connected") ? "" : "no route, or refused at the door") { Shell = Connects("169.254.169.254 80"), Python = PythonConnects("'169.254.169.254'", "80") },
        new("host by network", "connects to a port that listens on every address of the host", r => Has(r, "connected") ? "" : "not reachable")
        {
            Shell = "for h in 127.0.0.1 10.0.2.2 $HOSTS; do " + Connects("$h $PORT") + "; done", Python = PythonConnects("'127.0.0.1'", "$PORT"),
        },
        new("neighbour by network", "connects to a port that the neighbour listens on", r => Has(r, "connected") ? "" : "not reachable") { Shell = "for h in 127.0.0.1 localhost $(hostname) 10.0.2.15; do " + Connects("$h 7777") + "; done" },
        new("neighbour by file", "searches every shared place for the neighbour's secret, as root", r => Has(r, "found") ? "" : "not there")
        {
            Shell = "grep -rqs $MARK /tmp /home /dev/shm /run /var/tmp /var/lib 2>/dev/null && echo found; true", User = "root",
            Python = "import os\nfor top in ('/', '/tmp', '/home', '..', '../..', '../../..'):\n    for d, _, fs in os.walk(top):\n        for f in fs:\n            try:\n                if '$MARK' in open(os.path.join(d, f), errors='ignore').read(1000): print('found')\n            except OSError: pass\n        if d.count('/') > 4: break\nprint('searched')",
            Seconds = 60,
        },
        new("neighbour by its processes", "searches the environment of every process it can see for the neighbour's secret, as root", r => Has(r, "found") ? "" : "not to be seen")
        {
            Shell = "grep -qs $MARK /proc/[0-9]*/environ && echo found; true", User = "root",
        },
        new("physical memory", "reads /dev/mem, /dev/kmem and /proc/kcore, as root", r => Has(r, "read ") ? "the guest's own" : "refused, or empty")
        {
            Shell = "for f in /dev/mem /dev/kmem /proc/kcore; do [ \"$(head -c 4096 $f 2>/dev/null | wc -c)\" = 4096 ] && echo read $f; done; true", User = "root", OwnKernelOnly = "read ",
        },
    ];

    private static string Connects(string target) => $"timeout 2 python3 -c \"import socket,sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.5); print('connected')\" {target} 2>/dev/null; true";

    private static string PythonConnects(string host, string port) => $"try:\n    import socket\n    socket.create_connection(({host}, {port}), 1.5); print('connected')\nexcept Exception as e: print(type(e).__name__)";

    private static string Escaped(string code) => code.ReplaceLineEndings("\n").Replace("\"", "\\\"", StringComparison.Ordinal);

    private static bool Has(Ran ran, string text) => ran.Stdout.Contains(text, StringComparison.Ordinal) || ran.Stderr.Contains(text, StringComparison.Ordinal);

    private static string[] Lines(Ran ran) => ran.Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
}
