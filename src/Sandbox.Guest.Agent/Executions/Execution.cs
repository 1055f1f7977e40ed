using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>One execution: a process, or code in a context. It lives here, whatever becomes of the connection.</summary>
internal abstract class Execution(ulong stream, StartExecution request, Outbox outbox)
{
    public ulong Stream { get; } = stream;

    public StartExecution Request { get; } = request;

    public EventLog Events { get; } = new(stream, EventCost.WindowOf(request), outbox);

    public uint Pid { get; protected set; }

    protected Outbox Outbox { get; } = outbox;

    protected TimeSpan Grace => TimeSpan.FromMilliseconds(Request.GraceMs == 0 ? ProtocolLimits.DefaultGraceMs : Math.Min(Request.GraceMs, 300_000));

    /// <summary>Starts it; the caller answers the request afterwards.</summary>
    public abstract void Start();

    /// <summary>The start has been answered: what need not be waited for is done now.</summary>
    public virtual void Answered()
    {
    }

    public abstract void Signal(int number);

    public virtual void Stdin(StdinData data)
    {
    }

    public virtual void Resize(PtySize size)
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

    /// <summary>Says which files appeared or changed, if that was asked for. The last word before the exit.</summary>
    protected void Tell(ArtifactWatch? artifacts)
    {
        if (artifacts?.Finish() is { } changed)
        {
            Events.Add(new ExecutionEvent { ChangedFiles = changed });
        }
    }

    protected void Emit(OutputFd fd, ReadOnlySpan<byte> data)
    {
        while (data.Length > 0)
        {
            var part = data[..Math.Min(data.Length, ProtocolLimits.MaxOutputBytes)];
            Events.Add(new ExecutionEvent { Output = new Protocol.Output { Fd = fd, Data = Google.Protobuf.ByteString.CopyFrom(part) } });
            data = data[part.Length..];
        }
    }
}
