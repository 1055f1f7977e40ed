namespace Sandbox.Bench;

/// <summary>What the exit codes mean.</summary>
internal static class ExitCodes
{
    /// <summary>Every target is met.</summary>
    public const int Met = 0;

    /// <summary>A bench could not be run.</summary>
    public const int Failed = 1;

    /// <summary>The command line is wrong.</summary>
    public const int Usage = 2;

    /// <summary>All was measured, and a target is missed.</summary>
    public const int Missed = 3;

    /// <summary>Ctrl-C, or asked to end.</summary>
    public const int Interrupted = 130;
}
