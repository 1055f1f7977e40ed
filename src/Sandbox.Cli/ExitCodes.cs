namespace Sandbox.Cli;

/// <summary>What the program's exit codes mean, for everything but the code that a run or exec passes on.</summary>
internal static class ExitCodes
{
    /// <summary>Done.</summary>
    public const int Success = 0;

    /// <summary>It failed; a line on standard error says why.</summary>
    public const int Failure = 1;

    /// <summary>The command line is wrong.</summary>
    public const int Usage = 2;

    /// <summary>The code's timeout had passed, as timeout(1) says it.</summary>
    public const int TimedOut = 124;

    /// <summary>Sandbox itself failed: no server, no session, the session was lost. Not the code's doing.</summary>
    public const int SandboxFailed = 125;

    /// <summary>The code could not be started.</summary>
    public const int NotStarted = 126;

    /// <summary>Out of memory: killed by SIGKILL.</summary>
    public const int OutOfMemory = 137;

    /// <summary>For the help text.</summary>
    public const string Help = """
        Exit codes: the code's own; 128+N if a signal N ended it; 124 timed out; 137 out of memory;
        125 Sandbox itself failed; 126 the program could not be started; 2 wrong usage.
        """;
}
