using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.TestSupport;

/// <summary>Runs things in a guest to their end.</summary>
public static class GuestRuns
{
    /// <summary>Runs something in a guest to its end.</summary>
    public static async Task<Ran> RunAsync(IMicroVm vm, StartExecution request, CancellationToken cancellationToken = default)
    {
        request.ExecutionId = Guid.NewGuid().ToString("N");
        var execution = await vm.Guest.StartExecutionAsync(request, cancellationToken);
        var stdout = new MemoryStream();
        var stderr = new MemoryStream();
        var ran = new Ran();
        await foreach (var e in execution.Events)
        {
            await execution.AcknowledgeAsync(e.Seq, cancellationToken);
            switch (e.EventCase)
            {
                case ExecutionEvent.EventOneofCase.Output:
                    e.Output.Data.WriteTo(e.Output.Fd == OutputFd.Stderr ? stderr : stdout);
                    break;
                case ExecutionEvent.EventOneofCase.Result:
                    ran.Results.Add(e.Result);
                    break;
                case ExecutionEvent.EventOneofCase.CodeError:
                    ran.Error = e.CodeError;
                    break;
                case ExecutionEvent.EventOneofCase.Exited:
                    ran.Exited = e.Exited;
                    break;
            }
        }

        ran.Stdout = Encoding.UTF8.GetString(stdout.ToArray());
        ran.Stderr = Encoding.UTF8.GetString(stderr.ToArray());
        return ran;
    }

    public static Task<Ran> ShellAsync(IMicroVm vm, string command, ulong timeoutMs = 0, string user = "", CancellationToken cancellationToken = default) =>
        RunAsync(vm, new StartExecution { Command = new Command { Argv = { "/bin/bash", "-c", command } }, TimeoutMs = timeoutMs, User = user }, cancellationToken);

    public static Task<Ran> CodeAsync(IMicroVm vm, string context, string code, ulong timeoutMs = 0, CancellationToken cancellationToken = default) =>
        RunAsync(vm, new StartExecution { Code = new Code { ContextId = context, Source = code }, TimeoutMs = timeoutMs }, cancellationToken);
}
