using System.Collections.Concurrent;
using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>
/// The processes that the agent has started and waits for. As the first process of a container it is also given those whose parents have ended, and nobody else takes them away: they are
/// told apart here. In a microVM there is an init for that.
/// </summary>
internal static class Children
{
    private static readonly ConcurrentDictionary<int, bool> Known = new();
    private static readonly ReaderWriterLockSlim Starting = new();
    private static readonly AutoResetEvent Started = new(false);

    /// <summary>Takes care of orphans from now on.</summary>
    public static void AdoptOrphans() => new Thread(Run, 128 * 1024) { IsBackground = true, Name = "orphans" }.Start();

    /// <summary>Starts a child: <paramref name="start"/> returns its process id, or what is not one.</summary>
    public static int Start(Func<int> start)
    {
        // A child may have ended before its number is known here: until it is, nothing is taken for an orphan.
        Starting.EnterReadLock();
        try
        {
            var pid = start();
            if (pid > 0)
            {
                Known[pid] = true;
                Started.Set();
            }

            return pid;
        }
        finally
        {
            Starting.ExitReadLock();
        }
    }

    /// <summary>Waits until a child has ended.</summary>
    public static unsafe ProcessEnd Wait(int pid)
    {
        ProcessEnd end;
        Native.Wait(pid, &end);
        Known.TryRemove(pid, out _);
        return end;
    }

    private static void Run()
    {
        while (true)
        {
            var pid = Native.EndedChild();
            if (pid == 0)
            {
                Started.WaitOne();
                continue;
            }

            Starting.EnterWriteLock();
            var known = Known.ContainsKey(pid);
            Starting.ExitWriteLock();
            if (known)
            {
                // Whoever waits for it takes it in a moment.
                Thread.Sleep(5);
            }
            else
            {
                Native.Bury(pid);
            }
        }
    }
}
