using Sandbox.Abstractions;

namespace Sandbox.Client.Output;

/// <summary>What a session says of one of its executions, to somebody who reads its output.</summary>
/// <param name="HostId">Host whose log goes on.</param>
/// <param name="Ended">It has ended.</param>
/// <param name="Lost">It ended with its machine, its host or its session: its log may be without an exit, and nobody will write one.</param>
/// <param name="Waiting">Its session is paused or on the way between two machines: nothing comes until that is over, however long it takes.</param>
internal sealed record Whereabouts(string HostId, bool Ended, bool Lost, bool Waiting)
{
    public static Whereabouts Of(ExecutionInfo execution, SessionInfo session)
    {
        var over = session.State is SessionState.Terminated or SessionState.Failed;
        var ended = over || execution.State == ExecutionState.Ended;
        var lost = execution.Exit is { } exit ? exit.Reason == ExitReason.Lost || (over && exit.Reason == ExitReason.Killed) : ended;
        return new(execution.HostId, ended, lost, session.State is SessionState.Pausing or SessionState.Paused or SessionState.Resuming);
    }
}
