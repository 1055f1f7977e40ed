namespace Sandbox.Isolation.Null.Interpreter;

/// <summary>
/// A timer of a machine: it stands still with it and can be saved with it. Everything is called under the machine's lock, which the callback takes itself.
/// </summary>
internal sealed class PausableTimer(TimeProvider clock, Lock gate, Action fired)
{
    private ITimer? _timer;
    private TimeSpan? _left;
    private long _since;
    private int _version;

    /// <summary>What is left, or <see langword="null"/> if nothing is awaited.</summary>
    public TimeSpan? Left => _timer is null ? _left : Max(_left!.Value - clock.GetElapsedTime(_since));

    public bool IsSet => _left is not null;

    public void Set(TimeSpan after, bool running)
    {
        Cancel();
        _left = after;
        if (running)
        {
            Resume();
        }
    }

    public void Suspend()
    {
        var left = Left;
        Cancel();
        _left = left;
    }

    public void Resume()
    {
        if (_left is { } left && _timer is null)
        {
            _since = clock.GetTimestamp();
            _timer = clock.CreateTimer(Fire, _version, left, Timeout.InfiniteTimeSpan);
        }
    }

    public void Cancel()
    {
        _version++;
        _timer?.Dispose();
        (_timer, _left) = (null, null);
    }

    private void Fire(object? version)
    {
        lock (gate)
        {
            // A timer that was cancelled may be on its way here already.
            if ((int)version! == _version)
            {
                Cancel();
                fired();
            }
        }
    }

    private static TimeSpan Max(TimeSpan left) => left > TimeSpan.Zero ? left : TimeSpan.Zero;
}
