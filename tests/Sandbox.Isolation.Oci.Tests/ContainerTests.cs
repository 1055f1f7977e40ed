using System.Globalization;
using System.Text;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>What a session does, in a real container of each kind.</summary>
public sealed class ContainerTests(BackendFixture fixture, ITestOutputHelper output) : IClassFixture<BackendFixture>
{
    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task A_container_runs_commands_as_its_users_with_its_sizes_and_name(OciTier tier)
    {
        var spec = fixture.Spec(memoryMiB: 384, diskMiB: 256);
        await using var vm = await fixture.Of(tier).StartAsync(spec, Ct);
        output.WriteLine($"started in {vm.StartReport.Duration.TotalMilliseconds:0} ms");
        Assert.Equal((tier == OciTier.Gvisor ? "runsc" : "runc", "boot"), (vm.StartReport.Accelerator, vm.StartReport.Method));

        var told = await ShellAsync(vm, "id -un; hostname; df -m --output=size / | tail -1; date +%s; pwd; echo oops >&2; exit 3");
        var lines = told.Stdout.Split('\n').Select(l => l.Trim()).ToArray();
        Assert.Equal("user", lines[0]);
        Assert.Equal(spec.Hostname, lines[1]);
        Assert.InRange(int.Parse(lines[2], CultureInfo.InvariantCulture), 200, 256);
        Assert.InRange(long.Parse(lines[3], CultureInfo.InvariantCulture), DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 60, DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 2);
        Assert.Equal("/home/user", lines[4]);
        Assert.Equal("oops\n", told.Stderr);
        Assert.Equal(3, told.Exited.ExitCode);

        Assert.Equal("1\n", (await ShellAsync(vm, "nproc")).Stdout);

        // What it has and not what the host has; what cannot be known is not made up.
        var metrics = (await vm.Guest.RequestAsync(new Request { Metrics = new GetMetrics() }, Ct)).Metrics;
        Assert.Equal(384UL << 20, metrics.MemoryTotal);
        Assert.InRange(metrics.MemoryAvailable, 200UL << 20, 384UL << 20);
        Assert.InRange(metrics.DiskTotal, 200UL << 20, 256UL << 20);
        Assert.Equal(0UL, told.Exited.PeakMemoryBytes);

        // Everybody's files are theirs, whatever ids they have on the host.
        var files = await ShellAsync(vm, "stat -c '%U %a' / /etc/passwd /home/user /home/user/.profile /tmp /dev/shm; for d in /tmp /home/user /dev/shm; do echo x > $d/f && cat $d/f; done; cp -r /etc/skel ~/skel && mv ~/.profile /tmp/p && cat /tmp/p | wc -l | xargs test 5 -lt && echo moved");
        Assert.Equal("root 755\nroot 644\nuser 755\nuser 644\nroot 1777\nroot 1777\nx\nx\nx\nmoved\n", files.Stdout);
        var root = await ShellAsync(vm, "id -un; echo a > /etc/a && echo b > /root/b && cat /etc/a /root/b; cat /etc/hostname", user: "root");
        Assert.Equal($"root\na\nb\n{spec.Hostname}\n", root.Stdout);
    }

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task Contexts_keep_their_variables_in_every_language(OciTier tier)
    {
        await using var vm = await fixture.Of(tier).StartAsync(fixture.Spec(memoryMiB: 768), Ct);
        foreach (var language in (string[])["python", "javascript", "bash"])
        {
            await vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = language, Language = language } }, Ct);
        }

        await CodeAsync(vm, "python", "x = 20");
        var python = await CodeAsync(vm, "python", "print('hello'); x + 22");
        Assert.Equal("hello\n", python.Stdout);
        Assert.Equal("42", python.Results.Single().Data["text/plain"].ToStringUtf8());
        Assert.Equal("ZeroDivisionError", (await CodeAsync(vm, "python", "1 / 0")).Error!.Name);
        var figure = await CodeAsync(vm, "python", "import matplotlib.pyplot as plt; plt.plot([1, 2]); None");
        Assert.Contains(figure.Results, r => r.Data.TryGetValue("image/png", out var png) && png.Length > 1000);

        await CodeAsync(vm, "javascript", "const x = 20; let f = async () => 22");
        Assert.Equal("42", (await CodeAsync(vm, "javascript", "x + await f()")).Results.Single().Data["text/plain"].ToStringUtf8());

        await CodeAsync(vm, "bash", "x=42; cd /tmp; f() { echo \"f $x\"; }");
        Assert.Equal("f 42\n/tmp\n", (await CodeAsync(vm, "bash", "f; pwd")).Stdout);

        var loop = await CodeAsync(vm, "python", "while True: pass", timeoutMs: 700);
        Assert.True(loop.Exited is { TimedOut: true, ContextLost: false, CpuMs: > 200, PeakMemoryBytes: 0 }, loop.Exited.ToString());
        Assert.Equal("20\n", (await CodeAsync(vm, "python", "print(x)")).Stdout);
    }

    [Theory]
    [InlineData(OciTier.HostKernel)]
    [InlineData(OciTier.Gvisor)]
    public async Task Files_terminals_input_and_ports_work_as_in_a_machine(OciTier tier)
    {
        await using var vm = await fixture.Of(tier).StartAsync(fixture.Spec(), Ct);
        await WriteAsync(vm, "/home/user/a/b.txt", "content", "");
        await WriteAsync(vm, "/etc/of-root", "root's", "root");
        Assert.Equal("content 1000 root's 0", (await ShellAsync(vm, "echo -n $(cat a/b.txt; stat -c ' %u' a/b.txt; cat /etc/of-root; stat -c ' %u' /etc/of-root)")).Stdout);

        // The agent's capabilities are not its users'.
        var refused = await Assert.ThrowsAsync<Sandbox.Isolation.Guest.GuestException>(() => WriteAsync(vm, "/etc/not-mine", "x", ""));
        Assert.Equal(ErrorCode.PermissionDenied, refused.Code);
        await Assert.ThrowsAsync<Sandbox.Isolation.Guest.GuestException>(() => vm.Guest.RequestAsync(new Request { OpenFile = new OpenFile { Path = "/etc/shadow" } }, Ct));
        var listed = (await vm.Guest.RequestAsync(new Request { List = new ListDirectory { Path = "/", Depth = 1, Limit = 100 } }, Ct)).Files.Entries;
        Assert.Contains(listed, f => f.Path == "/bin" && f.SymlinkTarget == "usr/bin");

        var terminal = await RunAsync(vm, new StartExecution { Command = new Command { Argv = { "/bin/bash", "-c", "tty && stty size; echo typed; id -un > $(tty)" }, Pty = new PtySize { Columns = 100, Rows = 30 } } }, Ct);
        Assert.Contains("/dev/pts/", terminal.Stdout, StringComparison.Ordinal);
        Assert.Contains("30 100", terminal.Stdout, StringComparison.Ordinal);
        Assert.Contains("user", terminal.Stdout, StringComparison.Ordinal);

        var cat = await vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = "cat", Command = new Command { Argv = { "cat" }, OpenStdin = true } }, Ct);
        await cat.WriteStdinAsync("through"u8.ToArray(), endOfFile: true, Ct);
        var said = new StringBuilder();
        await foreach (var e in cat.Events)
        {
            said.Append(e.Output?.Data.ToStringUtf8());
            await cat.AcknowledgeAsync(e.Seq, Ct);
        }

        Assert.Equal("through", said.ToString());

        var server = await vm.Guest.StartExecutionAsync(
            new StartExecution { ExecutionId = "srv", Command = new Command { Argv = { "python3", "-uc", "import socket\ns = socket.create_server(('127.0.0.1', 8000))\nprint('ready')\nc, _ = s.accept()\nc.sendall(c.recv(100).upper())\nc.close()" } } }, Ct);
        await foreach (var e in server.Events)
        {
            await server.AcknowledgeAsync(e.Seq, Ct);
            if (e.Output is not null)
            {
                break;
            }
        }

        var port = await vm.Guest.OpenPortAsync(8000, Ct);
        await using (port)
        {
            await port.WriteAsync("knock"u8.ToArray(), end: false, Ct);
            var answer = new byte[100];
            var n = await port.ReadAsync(answer, Ct);
            Assert.Equal("KNOCK", Encoding.UTF8.GetString(answer, 0, n));
        }
    }

    private static async Task WriteAsync(IMicroVm vm, string path, string content, string user)
    {
        var open = new OpenFile { Path = path, User = user, Write = new OpenWrite { MakeParents = true } };
        var handle = (await vm.Guest.RequestAsync(new Request { OpenFile = open }, Ct)).Handle.Handle;
        await vm.Guest.RequestAsync(new Request { Write = new WriteChunk { Handle = handle, Data = ByteString.CopyFromUtf8(content) } }, Ct);
        await vm.Guest.RequestAsync(new Request { CloseFile = new CloseFile { Handle = handle, Commit = true } }, Ct);
    }
}
