using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Machine;

namespace Sandbox.Wasm.Worker.Executions;

/// <summary>One execution: a module, or code in a context.</summary>
internal abstract class Execution(ulong stream, StartExecution request, WasmMachine machine)
{
    public ulong Stream { get; } = stream;

    public StartExecution Request { get; } = request;

    public EventLog Events { get; } = new(stream, EventCost.WindowOf(request), machine.Outbox, machine.KeptBytes);

    public uint Pid { get; protected set; }

    protected WasmMachine Machine { get; } = machine;

    protected TimeSpan Grace => TimeSpan.FromMilliseconds(Request.GraceMs == 0 ? ProtocolLimits.DefaultGraceMs : Math.Min(Request.GraceMs, 300_000));

    /// <summary>Checks it and makes it ready; the caller answers the request afterwards.</summary>
    public abstract void Start();

    /// <summary>The start has been answered: it may run.</summary>
    public abstract void Answered();

    public abstract void Signal(int number);

    public virtual void Stdin(StdinData data)
    {
    }

    public virtual void Reconnected()
    {
    }

    public ExecutionSummary Summarize()
    {
        var summary = new ExecutionSummary { ExecutionId = Request.ExecutionId, Stream = Stream, Pid = Pid, Cwd = Request.Cwd };
        if (Request.Command is { } command)
        {
            summary.Argv.AddRange(command.Argv.Take(16).Select(a => a.Length > 64 ? a[..64] : a));
        }

        summary.ContextId = Request.Code?.ContextId ?? "";
        return summary;
    }

    /// <summary>The environment of a guest: what every one has, then what was asked for.</summary>
    protected static void RequireEnvironment(IEnumerable<KeyValuePair<string, string>> environment)
    {
        foreach (var (name, value) in environment)
        {
            if (name.Length == 0 || name.Contains('=') || name.Contains('\0') || value.Contains('\0'))
            {
                throw new WorkerException(ErrorCode.InvalidArgument, $"'{name}' is no name of an environment variable, or its value holds a NUL.");
            }
        }
    }

    /// <summary>Names the files that changed, if that was asked for, and then the end.</summary>
    protected void Finish(ChangedPaths? changed, Exited exited)
    {
        try
        {
            if (changed?.Finish() is { } files)
            {
                Events.Add(new ExecutionEvent { ChangedFiles = files }, Machine.Closed);
            }

            // What it wrote lasts from here on, whatever becomes of the worker.
            Machine.Keep();
            exited.DiskFull = Machine.IsDiskFull;
            Events.Add(new ExecutionEvent { Exited = exited }, Machine.Closed);
        }
        catch (OperationCanceledException)
        {
            // The machine is over, and its host with it.
        }
    }
}
