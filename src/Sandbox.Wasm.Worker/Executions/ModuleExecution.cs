using System.Diagnostics;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Languages;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Modules;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;
using Sandbox.Wasm.Worker.Wasi;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Executions;

/// <summary>A command: a session's module, or one of the interpreters on a script.</summary>
internal sealed class ModuleExecution(ulong stream, StartExecution request, WasmMachine machine) : Execution(stream, request, machine)
{
    private const int CannotExecute = 126;

    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly CancellationTokenSource _over = new();
    private readonly Run _run = new(machine.Turns, machine.Allowance);
    private ExecutionOutput _output = null!;
    private StdinBuffer? _stdin;
    private ChangedPaths? _changed;
    private GuestProgram _program = null!;
    private string _directory = "";
    private volatile bool _timedOut;

    public override void Start()
    {
        var command = Request.Command;
        if (command.Argv.Count is 0 or > 4096)
        {
            throw new WorkerException(ErrorCode.InvalidArgument, "A command has 1 to 4096 arguments.");
        }

        if (command.Pty is not null)
        {
            throw new WorkerException(ErrorCode.Unsupported, "This session is WebAssembly: it has no terminals. Run the command without one.");
        }

        WasmMachine.RequireUser(Request.User);
        RequireEnvironment(Request.Env);
        _directory = Machine.DirectoryFor(Request.Cwd);
        _program = GuestProgram.Find(Machine, command.Argv, _directory);
        _output = new ExecutionOutput(Events);
        _stdin = command.OpenStdin ? new StdinBuffer(Stream, Machine.Outbox) : null;

        // Before it runs: nothing it makes is missed.
        _changed = ChangedPaths.Begin(Request.Artifacts, Machine.Volume, _directory);
        Pid = Machine.NextPid();
    }

    public override void Answered()
    {
        new Thread(RunToEnd, WasmEngine.ThreadStack) { IsBackground = true, Name = "guest" }.Start();
        if (Request.TimeoutMs > 0)
        {
            _ = EndAfterTimeoutAsync();
        }
    }

    public override void Signal(int number)
    {
        // No module can catch one: those that ask a program to end do end it. 0 and the harmless ones ask nothing.
        if (number is > 0 and < 65 and not (17 or 18 or 23 or 28))
        {
            _run.Kill(number);
        }
    }

    public override void Stdin(StdinData data) => _stdin?.Offer(data);

    public override void Reconnected() => _stdin?.Reconnected();

    private void RunToEnd()
    {
        var end = new GuestEnd(CannotExecute, 0, null);
        try
        {
            end = RunProgram();
        }
        catch (Exception e) when (e is ModuleException or WasmtimeException or VolumeException or WorkerException)
        {
            end = _run.Killed > 0 ? new GuestEnd(0, _run.Killed, null) : end;
            Say($"[sandbox] cannot execute {Request.Command.Argv[0]}: {e.Message.Split('\n')[0]}");
        }
        catch (Exception e) when (e is OperationCanceledException or GuestEndedException)
        {
            // Killed before it ran.
            end = new GuestEnd(0, _run.Killed, null);
        }
        catch (Exception e)
        {
            // A bug of ours must end this execution and no other.
            Say($"[sandbox] the worker failed: {e.GetType().Name}: {e.Message}");
        }

        if (end.Trap is { } trap)
        {
            Say($"[sandbox] {Request.Command.Argv[0]} was ended: {trap}");
        }

        _over.Cancel();
        Finish(_changed, new Exited
        {
            ExitCode = end.ExitCode,
            Signal = end.Signal,
            TimedOut = _timedOut,
            OutOfMemory = _run.OutOfMemory,
            WallMs = (ulong)_clock.ElapsedMilliseconds,
            CpuMs = (ulong)_run.Cpu.TotalMilliseconds,
            PeakMemoryBytes = (ulong)_run.PeakMemory,
        });
        _changed?.Dispose();
        _run.Dispose();
    }

    private GuestEnd RunProgram()
    {
        var environment = Machine.EnvironmentWith(Request.Env, _directory);
        return _program.Run(new GuestProgram.Surroundings(
            Machine, _run, environment, _directory, (IGuestInput?)_stdin ?? NoInput.Instance, _output));
    }

    private void Say(string line)
    {
        try
        {
            _output.Say(line, Machine.Closed);
        }
        catch (OperationCanceledException)
        {
            // The machine is over.
        }
    }

    private async Task EndAfterTimeoutAsync()
    {
        try
        {
            await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(Request.TimeoutMs, int.MaxValue)), _over.Token).ConfigureAwait(false);
            _timedOut = true;

            // There is nothing that a module could do with a grace.
            _run.Kill(9);
        }
        catch (OperationCanceledException)
        {
            // It ended first.
        }
    }
}
