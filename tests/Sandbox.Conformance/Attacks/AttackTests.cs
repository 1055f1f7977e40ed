using System.Diagnostics;
using System.Globalization;
using System.Text;
using Sandbox.Conformance.Backends;
using Sandbox.Conformance.Suite;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Conformance.Attacks;

/// <summary>Hostile code in a machine beside a neighbour. After each attack the host is as before, the neighbour has noticed nothing, and the attacked machine goes on or has ended and says why.</summary>
public sealed class AttackTests(Subjects subjects) : ConformanceTest(subjects)
{
    /// <summary>After so long without an answer a machine must be known to be lost.</summary>
    private static readonly TimeSpan Truth = TimeSpan.FromSeconds(90);

    [Theory, ClassData(typeof(Matrix))]
    public async Task Whatever_hostile_code_tries_stays_in_its_machine(string backend)
    {
        var subject = await SubjectAsync(backend);
        using var host = new HostState(subject.Image);
        var neighbour = await subject.SharedAsync("neighbour", Ct);
        await WriteAsync(neighbour, "secret", Encoding.ASCII.GetBytes(host.Mark));
        if (subject.Can.Processes)
        {
            await neighbour.Guest.StartExecutionAsync(
                new StartExecution { ExecutionId = "listener", Env = { ["MARK"] = host.Mark }, Command = new Command { Argv = { "python3", "-c", "import socket\ns = socket.create_server(('', 7777))\nwhile True: s.accept()" } } }, Ct);
        }

        var wrong = new List<string>();
        foreach (var attack in AllAttacks.List.Where(a => subject.Can.Processes ? a.Shell is not null : a.Python is not null && subject.Languages.Contains("python")))
        {
            var clock = Stopwatch.StartNew();
            var how = await TryAsync(subject, attack, host);
            TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{clock.Elapsed.TotalSeconds,5:0.0} s  {attack.Name}: {how}"));
            if (how.Length == 0)
            {
                wrong.Add($"'{attack.Name}' ({attack.Tries}) was not contained: {_last}");
            }

            subject.Findings.Attacks[attack.Name] = how;
            var changes = host.Changes();
            if (changes.Length > 0)
            {
                wrong.Add($"after '{attack.Name}' the host is not as before: {changes}");
                break;
            }

            if (!await IsWellAsync(neighbour, host))
            {
                wrong.Add($"after '{attack.Name}' the neighbour is not as before");
                break;
            }
        }

        Assert.True(wrong.Count == 0, string.Join('\n', wrong));
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Endless_output_is_held_back_at_its_window(string backend)
    {
        var subject = await WithProcessesAsync(backend);
        var vm = await subject.SharedAsync("attacked", Ct);
        const int Window = 256 * 1024;
        var execution = await vm.Guest.StartExecutionAsync(
            new StartExecution { ExecutionId = Guid.NewGuid().ToString("N"), OutputWindow = Window, TimeoutMs = 4000, Command = new Command { Argv = { "/usr/bin/yes" } } }, Ct);
        long bytes = 0, events = 0;
        var neighbour = await subject.SharedAsync("neighbour", Ct);

        // Nobody acknowledges: what comes must end at the window although the program has more.
        await foreach (var e in execution.Events)
        {
            if (e.EventCase == ExecutionEvent.EventOneofCase.Exited)
            {
                Assert.True(e.Exited.TimedOut);
                break;
            }

            bytes += e.Output.Data.Length;
            events++;
            if (bytes >= Window - (events * 256) - 70_000)
            {
                break;
            }
        }

        await Task.Delay(500, Ct);
        await WriteAsync(neighbour, "quiet", [1]);
        await execution.SignalAsync(9, Ct);
        Assert.InRange(bytes, 1, Window + 65_536);
        subject.Findings.Attacks["endless output"] = "held back at the window until somebody reads";
        Assert.Empty(await StateAsync(subject, vm));
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Links_and_races_lead_no_file_call_out_of_its_users_rights(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.SharedAsync("attacked", Ct);
        using var host = new HostState(subject.Image);

        // What exists on the host only must not be found by any spelling.
        foreach (var path in (string[])[host.SecretFile, "../../../../../../../.." + host.SecretFile, "/proc/1/root" + host.SecretFile, "//../.." + host.SecretFile])
        {
            await RefusedAsync(vm, new Request { Stat = new StatPath { Path = path, Follow = true } });
            await RefusedAsync(vm, new Request { OpenFile = new OpenFile { Path = path, Read = new OpenRead() } });
        }

        if (subject.Can.Processes)
        {
            // A name that is a harmless file one moment and a link to another's the next.
            var racing = await vm.Guest.StartExecutionAsync(
                new StartExecution
                {
                    ExecutionId = Guid.NewGuid().ToString("N"),
                    TimeoutMs = 20_000,
                    Command = new Command { Argv = { "/bin/bash", "-c", "cd; echo mine > harmless; while :; do ln -sfn /etc/shadow x; ln -sfn harmless x; done" } },
                },
                Ct);
            for (var i = 0; i < 300; i++)
            {
                try
                {
                    Assert.DoesNotContain("root:", Encoding.UTF8.GetString(await ReadAsync(vm, "x")), StringComparison.Ordinal);
                }
                catch (GuestException)
                {
                    // Refused, or in between.
                }
            }

            await racing.SignalAsync(9, Ct);
        }

        Assert.Empty(host.Changes());
        subject.Findings.Attacks["symlinks and races on file calls"] = "the user's own rights, never the host's files";
        Assert.Empty(await StateAsync(subject, vm));
    }

    private string _last = "";

    private async Task<string> TryAsync(Subject subject, Attack attack, HostState host)
    {
        var vm = await subject.SharedAsync("attacked", Ct);
        Ran ran;
        try
        {
            ran = await RunAsync(subject, vm, attack, host).WaitAsync(TimeSpan.FromSeconds(attack.Seconds) + Truth, Ct);
        }
        catch (Exception e) when (e is GuestUnavailableException or GuestException or TimeoutException)
        {
            ran = new Ran { Stderr = e.Message };
            _last = e.Message;
        }

        _last = $"exit {ran.Exited}, stdout {Start(ran.Stdout)}, stderr {Start(ran.Stderr)}";
        var state = await StateAsync(subject, vm);
        if (state.Length > 0 || attack.Spoils)
        {
            await vm.DisposeAsync();
        }

        if (attack.OwnKernelOnly is { } word && subject.Can.Boundary == TrustBoundary.HostKernel && ran.Stdout.Contains(word, StringComparison.Ordinal))
        {
            // What may be done in a kernel of one's own may not be done in the host's.
            return "";
        }

        return state.Length == 0 || attack.Spoils ? attack.Contained(ran) + (state.Length > 0 ? "; " + state : "") : state;
    }

    private static async Task<Ran> RunAsync(Subject subject, IMicroVm vm, Attack attack, HostState host)
    {
        if (subject.Can.Processes)
        {
            return await GuestRuns.RunAsync(
                vm,
                new StartExecution
                {
                    User = attack.User,
                    TimeoutMs = (ulong)attack.Seconds * 1000,
                    Env = { ["PORT"] = $"{host.Port}", ["HOSTS"] = host.Addresses },
                    Command = new Command { Argv = { "/bin/bash", "-c", Hidden(attack.Shell!, host.Mark) } },
                },
                Ct);
        }

        var context = await Subject.ContextAsync(vm, "python", Ct);
        var code = attack.Python!.Replace("$MARK", host.Mark, StringComparison.Ordinal).Replace("$PORT", $"{host.Port}", StringComparison.Ordinal);
        return await CodeAsync(vm, context, code, (ulong)attack.Seconds * 1000);
    }

    /// <summary>The secret must not be found in the attacker's own environment: it is put together from two halves when it is used.</summary>
    private static string Hidden(string shell, string mark) => $"a={mark[..16]}; b={mark[16..]}; {shell.Replace("$MARK", "$a\"$b\"", StringComparison.Ordinal)}";

    /// <summary>Nothing if the machine is as usable as before; else what its owner is told. A machine that neither answers nor is known to be lost fails the test.</summary>
    private static async Task<string> StateAsync(Subject subject, IMicroVm vm)
    {
        try
        {
            await WriteAsync(vm, "alive", [1]).WaitAsync(Truth, Ct);
            if (subject.Can.Processes)
            {
                Assert.Equal("alive\n", (await ShellAsync(vm, "echo alive").WaitAsync(Truth, Ct)).Stdout);
            }

            return "";
        }
        catch (GuestException e)
        {
            return "afterwards the session says: " + e.Message;
        }
        catch (GuestUnavailableException e)
        {
            await Task.WhenAny(vm.Exited, vm.Guest.Closed).WaitAsync(Truth, Ct);
            return "the session ended: " + (vm.Exited.IsCompleted ? (await vm.Exited).Reason : e.Message);
        }
    }

    private static async Task<bool> IsWellAsync(IMicroVm neighbour, HostState host)
    {
        try
        {
            return Encoding.ASCII.GetString(await ReadAsync(neighbour, "secret").WaitAsync(TimeSpan.FromSeconds(20), Ct)) == host.Mark;
        }
        catch (Exception e) when (e is GuestException or GuestUnavailableException or TimeoutException)
        {
            return false;
        }
    }

    private static string Start(string text) => text.Length <= 300 ? text : text[..300] + "…";
}
