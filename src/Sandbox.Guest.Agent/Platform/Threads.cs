using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Platform;

/// <summary>
/// Starts threads. Where a program has used up the processes that the session may have, as a fork bomb does, no thread can be made either; that is an error of the one request that needs it and must never end the agent.
/// </summary>
internal static class Threads
{
    /// <summary>Starts a background thread.</summary>
    /// <exception cref="AgentException">None can be made now.</exception>
    public static Thread Start(ThreadStart run, int stackBytes, string name)
    {
        try
        {
            var thread = new Thread(run, stackBytes) { IsBackground = true, Name = name };
            thread.Start();
            return thread;
        }
        catch (Exception e) when (CannotBeMade(e))
        {
            throw new AgentException(ErrorCode.ResourceExhausted, "No more processes and threads can be made in this session: end some.");
        }
    }

    /// <summary>Whether this is how .NET says that a thread cannot be made.</summary>
    public static bool CannotBeMade(Exception e) => e is OutOfMemoryException or ThreadStartException;
}
