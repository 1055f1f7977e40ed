using System.Collections.Concurrent;
using System.Diagnostics;

namespace Sandbox.Isolation.Hosting;

/// <summary>
/// Starts processes from one thread that lives as long as the program. The kernel's parent-death signal is tied to the *thread* that forked:
/// started from a pool thread, a microVM would be killed when the pool retires that thread.
/// </summary>
public static class Spawner
{
    private static readonly BlockingCollection<(ProcessStartInfo Start, TaskCompletionSource<Process> Result)> Requests = [];

    static Spawner() => new Thread(Run) { IsBackground = true, Name = "spawner" }.Start();

    /// <summary>Starts a process that asks for a parent-death signal.</summary>
    public static Task<Process> StartAsync(ProcessStartInfo start)
    {
        var result = new TaskCompletionSource<Process>(TaskCreationOptions.RunContinuationsAsynchronously);
        Requests.Add((start, result));
        return result.Task;
    }

    private static void Run()
    {
        foreach (var (start, result) in Requests.GetConsumingEnumerable())
        {
            try
            {
                result.SetResult(Process.Start(start)!);
            }
            catch (Exception e)
            {
                result.SetException(e);
            }
        }
    }
}
