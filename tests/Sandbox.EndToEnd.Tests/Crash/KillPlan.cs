namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>When a life of the server ends: some milliseconds after the beginning of the n-th operation that changes something, or after a while.</summary>
internal sealed class KillPlan
{
    private readonly TaskCompletionSource _due = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TimeSpan _delay;
    private int _left;

    public KillPlan(Random random)
    {
        _left = random.Next(1, 9);

        // Most operations of this backend are over in some milliseconds, but the first of each kind in a process takes ten times as long.
        _delay = TimeSpan.FromMilliseconds(random.Next(4) == 0 ? random.Next(400) : random.Next(80));
        Longest = TimeSpan.FromMilliseconds(random.Next(500, 4000));
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
