using System.Diagnostics;
using System.Text;
using Sandbox.Bench.Benches;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Request = Sandbox.Guest.Protocol.Request;

namespace Sandbox.Bench.Machines;

/// <summary>Executions straight through the guest's channel: no actor, no log, no HTTP.</summary>
internal static class GuestRuns
{
    private static int _next;

    /// <summary>The least there is to run: what the fastest path is measured with, raw and through the API.</summary>
    public static IReadOnlyList<string> Echo { get; } = ["/bin/echo", "ok"];

    /// <summary>Runs a program to its end, acknowledging each event as it comes, and returns when its first byte was there (ticks of <see cref="Stopwatch"/>).</summary>
    /// <param name="guest">The machine.</param>
    /// <param name="argv">The program.</param>
    /// <param name="onBytes">Called for each event of output.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public static async Task<long> RunAsync(IGuest guest, IReadOnlyList<string> argv, Action<int>? onBytes, CancellationToken cancellationToken)
    {
        var start = new StartExecution { ExecutionId = $"bench-{Environment.ProcessId}-{Interlocked.Increment(ref _next)}", Command = new Command { Argv = { argv } } };
        return await FollowAsync(await guest.StartExecutionAsync(start, cancellationToken), onBytes, cancellationToken);
    }

    /// <summary>Runs a program to its end; returns what it said on standard output.</summary>
    public static async Task<string> TextAsync(IGuest guest, IReadOnlyList<string> argv, CancellationToken cancellationToken)
    {
        var start = new StartExecution { ExecutionId = $"bench-{Environment.ProcessId}-{Interlocked.Increment(ref _next)}", Command = new Command { Argv = { argv } } };
        var execution = await guest.StartExecutionAsync(start, cancellationToken);
        var (said, complained) = (new StringBuilder(), new StringBuilder());
        await foreach (var e in execution.Events.WithCancellation(cancellationToken))
        {
            if (e.EventCase == ExecutionEvent.EventOneofCase.Output)
            {
                (e.Output.Fd == OutputFd.Stdout ? said : complained).Append(e.Output.Data.ToStringUtf8());
            }

            await execution.AcknowledgeAsync(e.Seq, cancellationToken);
            if (e.EventCase == ExecutionEvent.EventOneofCase.Exited && (e.Exited.ExitCode != 0 || e.Exited.Signal != 0))
            {
                throw new BenchException($"a program in a raw machine ended with exit code {e.Exited.ExitCode}, signal {e.Exited.Signal}: {complained}");
            }
        }

        return said.ToString();
    }

    /// <summary>Runs code in a new Python context of the machine; what it makes stays there.</summary>
    public static async Task PythonAsync(IGuest guest, string code, CancellationToken cancellationToken) =>
        await CodeAsync(guest, await ContextAsync(guest, "python", cancellationToken), code, cancellationToken);

    /// <summary>Makes a context.</summary>
    public static async Task<string> ContextAsync(IGuest guest, string language, CancellationToken cancellationToken)
    {
        var id = $"bench-{Environment.ProcessId}-{Interlocked.Increment(ref _next)}";
        await guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = id, Language = language } }, cancellationToken);
        return id;
    }

    /// <summary>Runs code in a context, and returns when its first byte was there (ticks of <see cref="Stopwatch"/>; 0: it said nothing).</summary>
    public static async Task<long> CodeAsync(IGuest guest, string context, string code, CancellationToken cancellationToken)
    {
        var id = $"bench-{Environment.ProcessId}-{Interlocked.Increment(ref _next)}";
        return await FollowAsync(await guest.StartExecutionAsync(new StartExecution { ExecutionId = id, Code = new Code { ContextId = context, Source = code } }, cancellationToken), null, cancellationToken);
    }

    /// <summary>An answer after the last acknowledgement: nothing is under way in the channel.</summary>
    public static Task SettleAsync(IGuest guest, CancellationToken cancellationToken) => guest.RequestAsync(new Request { Metrics = new GetMetrics() }, cancellationToken);

    private static async Task<long> FollowAsync(IGuestExecution execution, Action<int>? onBytes, CancellationToken cancellationToken)
    {
        long first = 0;
        await foreach (var e in execution.Events.WithCancellation(cancellationToken))
        {
            if (e.EventCase == ExecutionEvent.EventOneofCase.Output)
            {
                first = first == 0 ? Stopwatch.GetTimestamp() : first;
                onBytes?.Invoke(e.Output.Data.Length);
            }

            await execution.AcknowledgeAsync(e.Seq, cancellationToken);
            if (e.EventCase == ExecutionEvent.EventOneofCase.Exited && (e.Exited.ExitCode != 0 || e.Exited.Signal != 0))
            {
                throw new BenchException($"an execution in a raw machine ended with exit code {e.Exited.ExitCode}, signal {e.Exited.Signal}");
            }
        }

        return first;
    }
}
