namespace Sandbox.Abstractions;

/// <summary>The states of a session. Every transition is persisted before it is announced.</summary>
[GenerateSerializer, Alias("sandbox.session-state")]
public enum SessionState
{
    /// <summary>The session was never created.</summary>
    None = 0,

    /// <summary>A host is being chosen and a microVM started.</summary>
    Creating = 1,

    /// <summary>A microVM serves it.</summary>
    Running = 2,

    /// <summary>A snapshot is being taken.</summary>
    Pausing = 3,

    /// <summary>Its snapshot is committed and no microVM exists.</summary>
    Paused = 4,

    /// <summary>A microVM is being brought back (after a pause, or after its host was lost).</summary>
    Resuming = 5,

    /// <summary>Ended on purpose: deleted, idle too long, or at its maximum lifetime. Final.</summary>
    Terminated = 6,

    /// <summary>Ended by a fault that it could not recover from; the cause says which. Final.</summary>
    Failed = 7,
}
