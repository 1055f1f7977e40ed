namespace Sandbox.Guest.Agent.Platform;

/// <summary>Where the agent runs, and so what it may change.</summary>
internal enum Surroundings
{
    /// <summary>A host, for tests: nothing of it is changed.</summary>
    Host = 0,

    /// <summary>A microVM, all of which is the session's.</summary>
    Machine = 1,

    /// <summary>A container: its files and name are the session's, its kernel and clock are not.</summary>
    Container = 2,
}
