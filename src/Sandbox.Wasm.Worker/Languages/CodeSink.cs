using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Executions;
using Sandbox.Wasm.Worker.Running;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>Where what a piece of code says and shows goes. Used by the guest's thread alone while it runs.</summary>
internal sealed class CodeSink(EventLog events)
{
    public ExecutionOutput Output { get; } = new(events);

    /// <summary>The code has failed.</summary>
    public bool Failed { get; private set; }

    public void Show(Run run, KernelReply.Shown shown)
    {
        foreach (var type in shown.LeftOut)
        {
            var notice = $"[sandbox] {type} is left out of a result, which would be over {ProtocolLimits.MaxResultBytes} bytes\n";
            Output.Write(run, OutputFd.Stderr, System.Text.Encoding.UTF8.GetBytes(notice));
        }

        if (shown.Result.Data.Count > 0)
        {
            Add(run, new ExecutionEvent { Result = shown.Result });
        }
    }

    public void Fail(Run run, CodeError error)
    {
        Failed = true;
        Add(run, new ExecutionEvent { CodeError = error });
    }

    private void Add(Run run, ExecutionEvent e)
    {
        Output.Flush(run);
        if (!events.TryAdd(e))
        {
            run.Wait(t => events.Add(e, t));
        }
    }
}
