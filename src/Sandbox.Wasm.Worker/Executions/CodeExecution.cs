using System.Diagnostics;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Languages;
using Sandbox.Wasm.Worker.Machine;

namespace Sandbox.Wasm.Worker.Executions;

/// <summary>A piece of code in a context.</summary>
internal sealed class CodeExecution : Execution
{
    private readonly LanguageContext _context;
    private readonly CodeSink _sink;
    private readonly CancellationTokenSource _over = new();
    private volatile int _cancelled;
    private volatile bool _timedOut;

    public CodeExecution(ulong stream, StartExecution request, WasmMachine machine, LanguageContext context)
        : base(stream, request, machine)
    {
        _context = context;
        _sink = new CodeSink(Events);
    }

    /// <summary>Where it runs, once it does. Guarded by the context's lock.</summary>
    public Interpreter? Interpreter { get; set; }

    public override void Start()
    {
        RequireEnvironment(Request.Env);
        Pid = _context.Pid;
    }

    public override void Answered()
    {
        try
        {
            _context.Enqueue(this);
        }
        catch (WorkerException e)
        {
            Fail(e.Message);
        }
    }

    public override void Signal(int number)
    {
        if (number is > 0 and < 65 && !_context.Signal(this, number))
        {
            _cancelled = number;
        }
    }

    /// <summary>The context could not even be started.</summary>
    public void Fail(string message)
    {
        Say(message);
        Finish(null, new Exited { ExitCode = 1, ContextLost = true });
    }

    public void RunIn(Interpreter interpreter, string directory)
    {
        if (_cancelled != 0)
        {
            Finish(null, new Exited { Signal = _cancelled });
            return;
        }

        var changed = ChangedPaths.Begin(Request.Artifacts, Machine.Volume, Request.Cwd.Length == 0 ? directory : WasmMachine.PathFrom(directory, Request.Cwd));
        var clock = Stopwatch.StartNew();
        var cpu = interpreter.Run.Cpu;
        if (Request.TimeoutMs > 0)
        {
            _ = InterruptAfterTimeoutAsync(interpreter);
        }

        int? code;
        try
        {
            var where = Request.Cwd.Length == 0 ? "" : Machine.DirectoryFor(WasmMachine.PathFrom(directory, Request.Cwd));
            code = interpreter.Evaluate(new CodeRequest(Request.Code.Source, where, Request.Env), _sink);
        }
        catch (WorkerException e)
        {
            Say(e.Message);
            code = 1;
        }

        _over.Cancel();
        var end = code is null ? interpreter.End : null;
        Explain(end, interpreter);
        Finish(changed, new Exited
        {
            // An interpreter that an interrupt has ended was still only interrupted: 130, as everywhere.
            ExitCode = code ?? (end!.Signal == 2 ? 130 : end.ExitCode),
            Signal = end is { Signal: not 2 } ? end.Signal : 0,
            TimedOut = _timedOut,
            OutOfMemory = code is null && interpreter.Run.OutOfMemory,
            ContextLost = code is null,
            WallMs = (ulong)clock.ElapsedMilliseconds,
            CpuMs = (ulong)(interpreter.Run.Cpu - cpu).TotalMilliseconds,
            PeakMemoryBytes = (ulong)interpreter.Run.PeakMemory,
        });
        changed?.Dispose();
    }

    /// <summary>Says why a context is lost, where that is not plain.</summary>
    private void Explain(Running.GuestEnd? end, Interpreter interpreter)
    {
        if (end?.Trap is { } trap)
        {
            Say($"[sandbox] the interpreter was ended: {trap}");
        }
        else if (end?.Signal == 2 && !interpreter.CanBeInterrupted)
        {
            Say("[sandbox] the code was interrupted; Python in WebAssembly cannot go on after that, so the context's variables are gone");
        }
        else if (end is not null && interpreter.Run.OutOfMemory)
        {
            Say("[sandbox] the machine has no memory left");
        }
    }

    private void Say(string line)
    {
        try
        {
            _sink.Output.Say(line, Machine.Closed);
        }
        catch (OperationCanceledException)
        {
            // The machine is over.
        }
    }

    private async Task InterruptAfterTimeoutAsync(Interpreter interpreter)
    {
        try
        {
            await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(Request.TimeoutMs, int.MaxValue)), _over.Token).ConfigureAwait(false);
            _timedOut = true;
            interpreter.Interrupt();
            await Task.Delay(Grace, _over.Token).ConfigureAwait(false);
            interpreter.Kill();
        }
        catch (OperationCanceledException)
        {
            // It ended first.
        }
    }
}
