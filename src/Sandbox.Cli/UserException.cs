namespace Sandbox.Cli;

/// <summary>An error whose message is all that its reader needs.</summary>
internal sealed class UserException(string message, int exitCode = ExitCodes.Failure) : Exception(message)
{
    /// <summary>Exit code of the program.</summary>
    public int ExitCode { get; } = exitCode;
}
