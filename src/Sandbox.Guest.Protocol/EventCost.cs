namespace Sandbox.Guest.Protocol;

/// <summary>
/// What an <see cref="ExecutionEvent"/> counts against <see cref="StartExecution.OutputWindow"/>. Both ends count the same way: the agent
/// sends an event only while the cost of all it has sent and not had acknowledged is below the window, so that the host never
/// holds more than one event beyond it. The fixed part keeps a flood of tiny events from growing the host's memory.
/// </summary>
public static class EventCost
{
    /// <summary>The fixed part of every event, in bytes.</summary>
    public const int Overhead = 256;

    /// <summary>Cost of one event in bytes: <see cref="Overhead"/> and its payload.</summary>
    public static int Of(ExecutionEvent executionEvent)
    {
        ArgumentNullException.ThrowIfNull(executionEvent);
        var cost = (long)Overhead;
        switch (executionEvent.EventCase)
        {
            case ExecutionEvent.EventOneofCase.Output:
                cost += executionEvent.Output.Data.Length;
                break;
            case ExecutionEvent.EventOneofCase.Result:
                foreach (var (type, data) in executionEvent.Result.Data)
                {
                    cost += type.Length + data.Length;
                }

                break;
            case ExecutionEvent.EventOneofCase.CodeError:
                cost += (long)executionEvent.CodeError.Name.Length + executionEvent.CodeError.Value.Length + executionEvent.CodeError.Traceback.Length;
                break;
            case ExecutionEvent.EventOneofCase.ChangedFiles:
                foreach (var file in executionEvent.ChangedFiles.Files)
                {
                    cost += 32 + file.Path.Length;
                }

                break;
        }

        // A frame is at most 512 KiB, so this never saturates for an event that came in one.
        return (int)Math.Min(cost, int.MaxValue);
    }

    /// <summary>The window that a request asks for, in bytes, with its default filled in.</summary>
    public static int WindowOf(StartExecution request)
    {
        ArgumentNullException.ThrowIfNull(request);
        return request.OutputWindow == 0 ? ProtocolLimits.DefaultOutputWindow : (int)Math.Min(request.OutputWindow, (uint)ProtocolLimits.MaxOutputWindow);
    }
}
