namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>When a life of the server ends: some milliseconds after the beginning of the n-th operation that changes something, or after a while.</summary>
internal sealed class KillPlan
{
    private readonly TaskCompletionSource _due = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TimeSpan _delay;
    private int _left;

    /// <param name="random">Chooses.</param>
    /// <param name="operations">After the beginning of one of the first so many operations.</param>
    /// <param name="shortly">At most so many milliseconds after it.</param>
    /// <param name="longest">At most so many milliseconds after the beginning of the life.</param>
    public KillPlan(Random random, int operations, int shortly, int longest)
    {
        _left = random.Next(1, operations + 1);

        // The first operation of each kind in a process takes ten times as long as those that follow.
        _delay = TimeSpan.FromMilliseconds(random.Next(random.Next(4) == 0 ? 5 * shortly : shortly));
        Longest = TimeSpan.FromMilliseconds(random.Next(longest / 8, longest));
    }

    private TimeSpan Longest { get; }

    /// <summary>An operation begins.</summary>
    public void OnOperation()
    {
        if (Interlocked.Decrement(ref _left) == 0)
        {
            _due.TrySetResult();
        }
    }

    /// <summary>Returns when the server is to be killed, or when <paramref name="failed"/> completes.</summary>
    public async Task WaitAsync(Task failed)
    {
        await Task.WhenAny(_due.Task, Task.Delay(Longest), failed);
        await Task.WhenAny(Task.Delay(_delay), failed);
    }
}
