namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>Something is there, or is so, that must not be, whenever the server was killed.</summary>
internal sealed class CrashViolationException(string message, KnownSession? session = null) : Exception(message)
{
    public KnownSession? Session => session;
}
