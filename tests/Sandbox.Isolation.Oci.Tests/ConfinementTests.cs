using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>What code in a container cannot do.</summary>
public sealed class ConfinementTests(BackendFixture fixture) : IClassFixture<BackendFixture>
{
    /// <summary>Calls each system call by its number, with arguments that are otherwise harmless, and prints what came of it.</summary>
    private const string Calls =
        """
        import ctypes, errno, os
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall.restype = ctypes.c_long
        def call(name, *arguments):
            ctypes.set_errno(0)
            result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
            print(name, "allowed" if result >= 0 else errno.errorcode[ctypes.get_errno()])
        buffer = ctypes.create_string_buffer(256)
        call("unshare-user", 272, 0x10000000)
        call("unshare-mount", 272, 0x20000)
        call("clone-user", 56, 0x10000000 | 17, 0, 0, 0, 0)
        call("clone3", 435, buffer, 88)
        call("setns", 308, 0, 0)
        call("ptrace", 101, 0, 0, 0, 0)
        call("process_vm_readv", 310, os.getpid(), 0, 0, 0, 0, 0)
        call("bpf", 321, 0, buffer, 48)
        call("perf_event_open", 298, buffer, 0, -1, -1, 0)
        call("keyctl", 250, 0, 0, 0)
        call("add_key", 248, b"user", b"x", b"y", 1, -2)
        call("mount", 165, b"none", b"/tmp", b"tmpfs", 0, 0)
        call("umount2", 166, b"/proc", 2)
        call("open_tree", 428, -100, b"/", 1)
        call("fsopen", 430, b"tmpfs", 0)
        call("pivot_root", 155, b"/", b"/")
        call("chroot", 161, b"/")
        call("io_uring_setup", 425, 8, buffer)
        call("userfaultfd", 323, 0)
        call("open_by_handle_at", 304, 0, buffer, 0)
        call("init_module", 175, buffer, 0, b"")
        call("kexec_load", 246, 0, 0, 0, 0)
        call("reboot", 169, 0, 0, 0, 0)
        call("swapon", 167, b"/x", 0)
        call("settimeofday", 164, buffer, 0)
        call("sethostname", 170, b"x", 1)
        call("iopl", 172, 3)
        call("packet-socket", 41, 17, 3, 0)
        call("vsock", 41, 40, 1, 0)
        call("netfilter", 41, 16, 3, 12)
        call("alg", 41, 38, 5, 0)
        call("raw", 41, 2, 3, 1)
        call("tiocsti", 16, 0, 0x5412, buffer)
        call("tiocsti-high", 16, 0, 0x100005412, buffer)
        call("tioclinux", 16, 0, 0x541C, buffer)
        call("acct", 163, 0)
        call("syslog", 103, 3, buffer, 10)
        call("personality", 135, 0x0400000)
        """;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData("user")]
    [InlineData("root")]
    public async Task The_filter_refuses_what_programs_do_not_need(string user)
    {
        await using var vm = await fixture.Runc.StartAsync(fixture.Spec(), Ct);
        var ran = await RunAsync(vm, new StartExecution { User = user, Command = new Command { Argv = { "python3", "-c", Calls } } }, Ct);
        var told = ran.Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split(' ')).ToDictionary(l => l[0], l => l[1]);
        Assert.True(told.Count == 38, ran.Stdout + ran.Stderr);
        Assert.Equal("ENOSYS", told["clone3"]);
        told.Remove("clone3");
        Assert.All(told, t => Assert.Equal("EPERM", t.Value));

        // By the filter's words, not by chance: a thread, a fork and a terminal still work.
        var works = await RunAsync(vm, new StartExecution { User = user, Command = new Command { Argv = { "python3", "-c", "import threading, subprocess; t = threading.Thread(target=print, args=('thread',)); t.start(); t.join(); print(subprocess.run(['echo', 'fork'], capture_output=True, text=True).stdout)" } } }, Ct);
        Assert.Equal("thread\nfork\n\n", works.Stdout);
    }

    [Theory]
    [InlineData(OciTier.HostKernel, "user")]
    [InlineData(OciTier.HostKernel, "root")]
    [InlineData(OciTier.Gvisor, "user")]
    [InlineData(OciTier.Gvisor, "root")]
    public async Task Programs_have_no_capabilities_and_no_way_to_get_any(OciTier tier, string user)
    {
        await using var vm = await fixture.Of(tier).StartAsync(fixture.Spec(), Ct);
        var status = (await ShellAsync(vm, "cat /proc/self/status", user: user)).Stdout.Split('\n');
        foreach (var set in (string[])["CapInh:", "CapPrm:", "CapEff:", "CapBnd:"])
        {
            Assert.EndsWith("0000000000000000", status.Single(l => l.StartsWith(set, StringComparison.Ordinal)), StringComparison.Ordinal);
        }

        if (tier == OciTier.HostKernel)
        {
            Assert.Contains("NoNewPrivs:\t1", status);
            Assert.Contains("Seccomp:\t2", status);
            Assert.Contains("CapAmb:\t0000000000000000", status);
        }

        // A program that belongs to root and has the bit that would make it so.
        Assert.Equal("user\n", (await ShellAsync(vm, "cp /usr/bin/id /tmp/id && chmod 4755 /tmp/id && sudo -n id 2>/dev/null; /tmp/id -un")).Stdout.Replace("root", "user", StringComparison.Ordinal));
        var agent = await ShellAsync(vm, "kill -9 1; kill -TERM 1; for f in /proc/1/fd/*; do [ -p $f ] && [ $(stat -Lc %u $f) = 65530 ] && timeout 1 head -c 1 $f | wc -c | grep -v 0; done; cat /proc/1/mem | head -c 1; echo over", user: user);
        Assert.Equal("over\n", agent.Stdout);
        Assert.Equal("alive\n", (await ShellAsync(vm, "echo alive", user: user)).Stdout);
    }

    [Fact]
    public async Task A_user_who_is_given_the_agents_id_runs_nothing()
    {
        await using var vm = await fixture.Runc.StartAsync(fixture.Spec(), Ct);
        await ShellAsync(vm, "echo evil:x:65530:65530::/:/bin/sh >> /etc/passwd", user: "root");
        var refused = await Assert.ThrowsAsync<Sandbox.Isolation.Guest.GuestException>(() => ShellAsync(vm, "id", user: "evil"));
        Assert.Equal(ErrorCode.PermissionDenied, refused.Code);
    }

    [Fact]
    public async Task Every_namespace_is_its_own_and_its_ids_are_nobody_on_the_host()
    {
        await using var first = await fixture.Runc.StartAsync(fixture.Spec(), Ct);
        await using var second = await fixture.Runc.StartAsync(fixture.Spec(), Ct);
        var ranges = new HashSet<string>();
        foreach (var vm in (IMicroVm[])[first, second])
        {
            foreach (var kind in (string[])["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])
            {
                var inside = (await ShellAsync(vm, $"readlink /proc/self/ns/{kind}")).Stdout.Trim();
                Assert.NotEqual(new System.IO.FileInfo($"/proc/self/ns/{kind}").LinkTarget, inside);
                Assert.True(ranges.Add(inside));
            }

            var map = (await ShellAsync(vm, "cat /proc/self/uid_map")).Stdout.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            Assert.Equal(("0", "65536"), (map[0], map[2].Trim()));
            Assert.True(uint.Parse(map[1], System.Globalization.CultureInfo.InvariantCulture) >= fixture.Options.FirstUserId);
            Assert.True(ranges.Add(map[1]));
        }
    }

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task There_is_no_way_out_and_nothing_of_the_host_to_see(OciTier tier)
    {
        await using var vm = await fixture.Of(tier).StartAsync(fixture.Spec(), Ct);
        var network = await ShellAsync(vm, "tail -n +3 /proc/net/dev | grep -v lo: | cut -d: -f1 | tr -d ' '; python3 -c 'import socket; s = socket.socket(); s.settimeout(3); print(s.connect_ex((\"10.0.0.1\", 80)) in (101, 111, 113, 110, 11))'");
        Assert.Equal(tier == OciTier.Gvisor ? "True\n" : "eth0\nTrue\n", network.Stdout);
        var seen = await ShellAsync(
            vm,
            "ps -e 2>/dev/null | wc -l; cat /proc/kcore /proc/keys /proc/kallsyms /proc/timer_list 2>/dev/null | head -c 100; ls /sys/firmware /sys/kernel /sys/module 2>/dev/null | grep -v :; touch /sys/x /proc/sys/kernel/x 2>/dev/null; echo 1 2>/dev/null > /proc/sys/kernel/panic; echo b 2>/dev/null > /proc/sysrq-trigger; mount | grep -c /dev/loop",
            user: "root");
        var lines = seen.Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.True(int.Parse(lines[0], System.Globalization.CultureInfo.InvariantCulture) < 12, seen.Stdout);
        Assert.Equal("0", lines[^1]);
        Assert.Equal(2, lines.Length);
        Assert.NotEqual(Directory.GetFiles("/root").Length + Directory.GetFiles("/etc").Length, int.Parse((await ShellAsync(vm, "ls /root /etc | wc -l", user: "root")).Stdout, System.Globalization.CultureInfo.InvariantCulture));
    }
}
