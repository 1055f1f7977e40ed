using System.Security.Cryptography;
using System.Text;
using Sandbox.Conformance.Backends;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Conformance.Suite;

/// <summary>Programs: output, input, users, signals, time, terminals, ports.</summary>
public sealed class ExecutionTests(Subjects subjects) : ConformanceTest(subjects)
{
    [Theory, ClassData(typeof(Matrix))]
    public async Task A_command_has_its_outputs_code_user_environment_and_directory(string backend)
    {
        var subject = await WithProcessesAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);

        var ran = await GuestRuns.RunAsync(
            vm,
            new StartExecution { Command = new Command { Argv = { "/bin/bash", "-c", "id -un; echo $GREETING; pwd; echo oops >&2; exit 3" } }, Env = { ["GREETING"] = "hello" }, Cwd = "/tmp" },
            Ct);

        Assert.Equal("user\nhello\n/tmp\n", ran.Stdout);
        Assert.Equal("oops\n", ran.Stderr);
        Assert.Equal(3, ran.Exited.ExitCode);
        Assert.Equal("root\n", (await ShellAsync(vm, "id -un", user: "root")).Stdout);
        Assert.Equal("/home/user\n", (await ShellAsync(vm, "pwd")).Stdout);
        Assert.Equal($"test-{vm.Owner.VmId}\n", (await ShellAsync(vm, "hostname")).Stdout);
        if (subject.Can.Boundary == TrustBoundary.VirtualMachine)
        {
            // A container is given its share of all processors, and sees them.
            Assert.Equal("1\n", (await ShellAsync(vm, "nproc")).Stdout);
        }

        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task What_cannot_be_started_is_refused(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);

        await Assert.ThrowsAsync<GuestException>(() => vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = "missing", Command = new Command { Argv = { "/no/such/program" } } }, Ct));
        await Assert.ThrowsAsync<GuestException>(() => vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = "user", User = "nobody-here", Command = new Command { Argv = { "/bin/true" } } }, Ct));
        await Assert.ThrowsAsync<GuestException>(() => vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = "context", Code = new Code { ContextId = "none", Source = "1" } }, Ct));
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Large_output_arrives_whole(string backend)
    {
        var subject = await WithProcessesAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);

        var ran = await ShellAsync(vm, "head -c 6000000 /dev/zero | tr '\\0' x; echo; head -c 3000000 /dev/urandom | tee /tmp/out | base64 -w0 >&2; sha256sum < /tmp/out");

        Assert.Equal(6_000_000, ran.Stdout.IndexOf('\n', StringComparison.Ordinal));
        Assert.Contains(Convert.ToHexStringLower(SHA256.HashData(Convert.FromBase64String(ran.Stderr))), ran.Stdout, StringComparison.Ordinal);
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Input_reaches_a_program_and_ends(string backend)
    {
        var subject = await WithProcessesAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        var execution = await vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = Guid.NewGuid().ToString("N"), Command = new Command { Argv = { "/usr/bin/sha256sum" }, OpenStdin = true } }, Ct);
        var data = RandomNumberGenerator.GetBytes(1_000_000);
        var reading = ReadAllAsync(execution);

        await execution.WriteStdinAsync(data, endOfFile: true, Ct);

        Assert.StartsWith(Convert.ToHexStringLower(SHA256.HashData(data)), (await reading).Text, StringComparison.Ordinal);
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Signals_and_time_limits_end_what_they_are_for_with_its_children(string backend)
    {
        var subject = await WithProcessesAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        var execution = await vm.Guest.StartExecutionAsync(
            new StartExecution { ExecutionId = Guid.NewGuid().ToString("N"), Command = new Command { Argv = { "/bin/bash", "-c", "sleep 987 & sleep 987; true" } } }, Ct);
        var reading = ReadAllAsync(execution);
        await execution.SignalAsync(9, Ct);
        Assert.Equal(9, (await reading).Exited.Signal);

        var late = await ShellAsync(vm, "trap '' TERM; while :; do :; done", timeoutMs: 1000);
        Assert.True(late.Exited.TimedOut);
        Assert.Equal("0\n", (await ShellAsync(vm, "n=0; for p in /proc/[0-9]*; do [ \"$(tr '\\0' ' ' < $p/cmdline 2>/dev/null)\" = 'sleep 987 ' ] && n=$((n+1)); done; echo $n")).Stdout);
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task A_terminal_is_one(string backend)
    {
        var subject = await WithProcessesAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        var execution = await vm.Guest.StartExecutionAsync(
            new StartExecution
            {
                ExecutionId = Guid.NewGuid().ToString("N"),
                Command = new Command { Argv = { "/bin/bash", "-c", "tty > /dev/null && echo terminal; stty size; read line; echo got $line; exit 5" }, Pty = new PtySize { Columns = 100, Rows = 30 }, OpenStdin = true },
            },
            Ct);
        var reading = ReadAllAsync(execution);
        await execution.WriteStdinAsync("typed\n"u8.ToArray(), endOfFile: false, Ct);
        var (text, exited) = await reading;

        // What is typed is echoed when it comes, between any two of these.
        Assert.Contains("terminal\r\n", text, StringComparison.Ordinal);
        Assert.Contains("30 100\r\n", text, StringComparison.Ordinal);
        Assert.Contains("got typed\r\n", text, StringComparison.Ordinal);
        Assert.Equal(5, exited.ExitCode);
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task A_port_of_the_guest_is_reached_and_a_closed_one_is_not(string backend)
    {
        var subject = await WithProcessesAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        const string Server = "import socket\ns = socket.create_server(('127.0.0.1', 7070))\nprint('up', flush=True)\nc, _ = s.accept()\nd = c.recv(100)\nc.sendall(d.upper())\nc.close()";
        var execution = await vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = Guid.NewGuid().ToString("N"), Command = new Command { Argv = { "python3", "-c", Server } } }, Ct);
        var up = new TaskCompletionSource();
        var reading = ReadAllAsync(execution, up);
        await up.Task.WaitAsync(TimeSpan.FromSeconds(30), Ct);

        await using (var port = await vm.Guest.OpenPortAsync(7070, Ct))
        {
            await port.WriteAsync("spoken"u8.ToArray(), end: false, Ct);
            var heard = new byte[6];
            for (var at = 0; at < heard.Length;)
            {
                var read = await port.ReadAsync(heard.AsMemory(at), Ct);
                Assert.NotEqual(0, read);
                at += read;
            }

            Assert.Equal("SPOKEN", Encoding.ASCII.GetString(heard));
        }

        Assert.Equal(0, (await reading).Exited.ExitCode);
        Assert.Equal(ErrorCode.NotFound, (await Assert.ThrowsAsync<GuestException>(() => vm.Guest.OpenPortAsync(7071, Ct))).Code);
        Passed(subject);
    }

    private static async Task<(string Text, Exited Exited)> ReadAllAsync(IGuestExecution execution, TaskCompletionSource? first = null)
    {
        var text = new StringBuilder();
        await foreach (var e in execution.Events)
        {
            await execution.AcknowledgeAsync(e.Seq, Ct);
            if (e.EventCase == ExecutionEvent.EventOneofCase.Output)
            {
                text.Append(e.Output.Data.ToStringUtf8());
                first?.TrySetResult();
            }
            else if (e.EventCase == ExecutionEvent.EventOneofCase.Exited)
            {
                return (text.ToString(), e.Exited);
            }
        }

        throw new InvalidOperationException("It ended without saying how.");
    }
}
