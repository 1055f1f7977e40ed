using Sandbox.Abstractions;
using Sandbox.E2b.Protos.Process;

namespace Sandbox.E2b.Envd.Process;

/// <summary>Finds the execution that a pid or a tag means. The session's index is asked each time; nothing is remembered here.</summary>
internal static class ProcessLookup
{
    /// <summary>Most of what is looked for is among the newest.</summary>
    private const int Newest = 64;
    private const int All = 1000;

    /// <summary>A running process.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>.</exception>
    public static Task<ExecutionInfo> RunningAsync(ISessionExecutions executions, ProcessSelector? selector) => FindAsync(executions, selector, mayHaveEnded: false);

    /// <summary>A running process, or else the newest of that name that has ended: its output is still there.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>.</exception>
    public static Task<ExecutionInfo> AnyAsync(ISessionExecutions executions, ProcessSelector? selector) => FindAsync(executions, selector, mayHaveEnded: true);

    /// <summary>The processes that run, oldest first. Code in contexts is no process of its own.</summary>
    public static async Task<IReadOnlyList<ExecutionInfo>> ListAsync(ISessionExecutions executions) =>
        [.. (await executions.ListExecutionsAsync(All)).Where(e => e.ContextId is null && e.State == ExecutionState.Running).Reverse()];

    private static async Task<ExecutionInfo> FindAsync(ISessionExecutions executions, ProcessSelector? selector, bool mayHaveEnded)
    {
        Func<ExecutionInfo, bool> wanted = selector?.SelectorCase switch
        {
            ProcessSelector.SelectorOneofCase.Pid => e => e.Pid == selector.Pid && e.Pid != 0,
            ProcessSelector.SelectorOneofCase.Tag => e => e.Tag == selector.Tag,
            _ => throw SandboxException.Invalid("process", "The process must be named by pid or by tag."),
        };
        ExecutionInfo? ended = null;
        foreach (var limit in (int[])[Newest, All])
        {
            var found = await executions.ListExecutionsAsync(limit);
            foreach (var execution in found.Where(e => e.ContextId is null && wanted(e)))
            {
                if (execution.State != ExecutionState.Ended)
                {
                    return execution;
                }

                ended ??= execution;
            }

            if (found.Count < limit)
            {
                break;
            }
        }

        return mayHaveEnded && ended is not null ? ended : throw SandboxException.NotFound($"There is no process with {selector.SelectorCase switch
        {
            ProcessSelector.SelectorOneofCase.Pid => $"pid {selector.Pid}",
            _ => $"tag '{(selector.Tag.Length <= 128 ? selector.Tag : selector.Tag[..128] + "…")}'",
        }}");
    }
}
