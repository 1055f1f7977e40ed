namespace Sandbox.Output;

/// <summary>An output log cannot do what was asked; the message says why.</summary>
public class OutputLogException : IOException
{
    /// <summary>Makes an exception that says what happened, to which log.</summary>
    public OutputLogException(string message)
        : base(message)
    {
    }

    /// <summary>Makes an exception that wraps a cause.</summary>
    public OutputLogException(string message, Exception inner)
        : base(message, inner)
    {
    }
}

/// <summary>The log was deleted: its session is gone, or its retention has passed.</summary>
public sealed class OutputLogDeletedException(string log) : OutputLogException($"Output log {log} has been deleted.");

/// <summary>Bytes on disk are not what was written. Not raised for a torn tail, which is cut when the log is opened.</summary>
public sealed class OutputLogCorruptException(string file, long offset, string what)
    : OutputLogException($"Output log segment {file} is damaged at byte {offset}: {what}. Restore the file or delete the log.");
