using System.Runtime.CompilerServices;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Executions;

/// <summary>
/// Output that always ends with an exit. The log of an execution that was lost may lack one (its host is away, or its session went on elsewhere without it); a follower who got none would take
/// the end for a broken connection and come back for ever. The session knows how it ended.
/// </summary>
internal static class CompletedOutput
{
    public static async IAsyncEnumerable<OutputEvent> ReadAsync(
        IOutputSource outputs, IGrainFactory grains, string session, string execution, long fromSeq, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var next = fromSeq;
        await foreach (var output in outputs.ReadAsync(session, execution, fromSeq, cancellationToken))
        {
            yield return output;
            next = output.Seq + 1;
            if (output.Kind == OutputKind.Exit)
            {
                yield break;
            }
        }

        var info = await grains.Session<ISessionExecutions>(session).GetExecutionAsync(execution);
        if (info.Exit is { Reason: not ExitReason.Exited } exit && !await EndsBeforeAsync(grains.GetGrain<IOutputGrain>($"{info.HostId}/{session}/{execution}"), next))
        {
            yield return new OutputEvent(next, OutputKind.Exit, info.EndedAt ?? DateTimeOffset.UtcNow, OutputJson.Write(exit));
        }
    }

    /// <summary>The log has its exit, and the reader asked for what comes after it.</summary>
    private static async Task<bool> EndsBeforeAsync(IOutputGrain log, long next)
    {
        try
        {
            return (await log.ReadAsync(next, TimeSpan.Zero)).Complete;
        }
        catch (Exception e) when (e is SandboxException or TimeoutException or Orleans.Runtime.OrleansException)
        {
            return false;
        }
    }
}
