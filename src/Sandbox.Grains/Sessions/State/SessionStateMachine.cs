using System.Collections.Frozen;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions.State;

/// <summary>Which state may follow which. The table is the whole truth; docs/sessions.md draws it.</summary>
internal static class SessionStateMachine
{
    private static readonly FrozenDictionary<SessionState, SessionState[]> Next = new Dictionary<SessionState, SessionState[]>
    {
        [SessionState.None] = [SessionState.Creating],
        [SessionState.Creating] = [SessionState.Running, SessionState.Paused, SessionState.Terminated, SessionState.Failed],
        [SessionState.Running] = [SessionState.Pausing, SessionState.Resuming, SessionState.Terminated, SessionState.Failed],
        [SessionState.Pausing] = [SessionState.Paused, SessionState.Running, SessionState.Resuming, SessionState.Terminated, SessionState.Failed],
        [SessionState.Paused] = [SessionState.Resuming, SessionState.Terminated, SessionState.Failed],
        [SessionState.Resuming] = [SessionState.Running, SessionState.Paused, SessionState.Terminated, SessionState.Failed],
        [SessionState.Terminated] = [],
        [SessionState.Failed] = [],
    }.ToFrozenDictionary();

    /// <summary>Whether a transition is legal.</summary>
    public static bool Allows(SessionState from, SessionState to) => Next[from].Contains(to);

    /// <summary>The document after a transition.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Conflict"/>: the transition is not legal.</exception>
    public static SessionDocument Move(SessionDocument document, SessionState to, string? cause, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(document);
        return Allows(document.State, to)
            ? document with { State = to, Cause = cause, StateChangedAt = now }
            : throw SandboxException.Conflict($"Session {document.Id} is {Word(document.State)} and cannot become {Word(to)}.");
    }

    /// <summary>A state as messages spell it.</summary>
    public static string Word(SessionState state) => state switch
    {
        SessionState.None => "unknown",
        SessionState.Creating => "creating",
        SessionState.Running => "running",
        SessionState.Pausing => "pausing",
        SessionState.Paused => "paused",
        SessionState.Resuming => "resuming",
        SessionState.Terminated => "terminated",
        _ => "failed",
    };
}
