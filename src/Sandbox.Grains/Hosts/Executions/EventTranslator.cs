using System.Text;
using Sandbox.Abstractions;
using Sandbox.Grains.Output;
using Sandbox.Guest.Protocol;

namespace Sandbox.Grains.Hosts.Executions;

/// <summary>Turns guest events into log events and keeps to the output limit: what comes after it is dropped, once said, and counted.</summary>
internal sealed class EventTranslator(long limit, TimeProvider clock, int events = 0, long outputBytes = 0, long droppedBytes = 0)
{
    /// <summary>Most events kept: bounds what a flood of tiny writes costs on disk.</summary>
    private const int MaxEvents = 500_000;

    /// <summary>Events kept so far.</summary>
    public int Events { get; private set; } = events;

    public long OutputBytes { get; private set; } = outputBytes;

    public long DroppedBytes { get; private set; } = droppedBytes;

    public long Limit => limit;

    /// <summary>Adds what one event becomes. <see cref="Exited"/> is the pump's own business.</summary>
    public void Translate(ExecutionEvent e, List<PendingEvent> to)
    {
        switch (e.EventCase)
        {
            case ExecutionEvent.EventOneofCase.Output:
                var kind = e.Output.Fd switch
                {
                    OutputFd.Stderr => OutputKind.Stderr,
                    OutputFd.Pty => OutputKind.Pty,
                    _ => OutputKind.Stdout,
                };
                AddBytes(kind, e.Output.Data.Span, to);
                break;
            case ExecutionEvent.EventOneofCase.Result:
                AddWhole(OutputKind.Result, OutputJson.Write(ResultOf(e.Result)), to);
                break;
            case ExecutionEvent.EventOneofCase.CodeError:
                AddWhole(OutputKind.CodeError, OutputJson.Write(new CodeErrorData(e.CodeError.Name, e.CodeError.Value, e.CodeError.Traceback)), to);
                break;
        }
    }

    private static RichResultData ResultOf(RichResult result)
    {
        var data = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var (type, bytes) in result.Data)
        {
            data[type] = IsText(type) ? Encoding.UTF8.GetString(bytes.Span) : Convert.ToBase64String(bytes.Span);
        }

        return new RichResultData(data, result.IsMain, (int)Math.Min(result.ExecutionCount, int.MaxValue));
    }

    private static bool IsText(string type) =>
        type.StartsWith("text/", StringComparison.Ordinal)
        || type is "application/json" or "application/javascript" or "image/svg+xml"
        || type.EndsWith("+json", StringComparison.Ordinal)
        || type.EndsWith("+xml", StringComparison.Ordinal);

    private void AddBytes(OutputKind kind, ReadOnlySpan<byte> data, List<PendingEvent> to)
    {
        var room = DroppedBytes > 0 || Events >= MaxEvents ? 0 : (int)Math.Min(data.Length, limit - OutputBytes);
        if (room > 0)
        {
            Events++;
            to.Add(new PendingEvent(kind, clock.GetUtcNow(), data[..room].ToArray()));
            OutputBytes += room;
        }

        Drop(data.Length - room, to);
    }

    private void AddWhole(OutputKind kind, byte[] data, List<PendingEvent> to)
    {
        if (DroppedBytes == 0 && Events < MaxEvents && OutputBytes + data.Length <= limit)
        {
            Events++;
            to.Add(new PendingEvent(kind, clock.GetUtcNow(), data));
            OutputBytes += data.Length;
        }
        else
        {
            Drop(data.Length, to);
        }
    }

    private void Drop(int count, List<PendingEvent> to)
    {
        if (count == 0)
        {
            return;
        }

        if (DroppedBytes == 0)
        {
            var text = $"The output limit of {limit} bytes ({MaxEvents} events) is reached; further output of this execution is dropped.";
            to.Add(new PendingEvent(OutputKind.Notice, clock.GetUtcNow(), Encoding.UTF8.GetBytes(text)));
        }

        DroppedBytes += count;
    }
}
