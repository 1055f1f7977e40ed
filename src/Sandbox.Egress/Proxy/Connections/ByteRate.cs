namespace Sandbox.Egress.Proxy.Connections;

/// <summary>
/// Holds one direction of a session's traffic to a number of bytes in a second, over all of its connections. What was moved already is owed and waited for before more is moved, so that a piece needs no room in the bucket. Thread-safe.
/// </summary>
/// <param name="time">Clock.</param>
internal sealed class ByteRate(TimeProvider time)
{
    private readonly Lock _lock = new();
    private double _balance;
    private long _last;
    private long _perSecond;

    /// <summary>Bytes in a second; 0: as many as come.</summary>
    public long PerSecond
    {
        get => Volatile.Read(ref _perSecond);
        set
        {
            lock (_lock)
            {
                // A debt of the old rate would be paid at the new one.
                _balance = Math.Max(0, _balance);
                _last = time.GetTimestamp();
                Volatile.Write(ref _perSecond, value);
            }
        }
    }

    /// <summary>Most bytes to be moved in one piece: a tenth of a second's, so that a slow session's connections take turns.</summary>
    public int Piece(int wanted)
    {
        var rate = PerSecond;
        return rate == 0 ? wanted : (int)Math.Clamp(rate / 10, 1024, wanted);
    }

    /// <summary>Notes that bytes were moved, and waits until more may be.</summary>
    public ValueTask TakeAsync(int bytes, CancellationToken cancellationToken)
    {
        if (PerSecond == 0)
        {
            return ValueTask.CompletedTask;
        }

        TimeSpan wait;
        lock (_lock)
        {
            if (_perSecond == 0)
            {
                return ValueTask.CompletedTask;
            }

            var now = time.GetTimestamp();
            _balance = Math.Min(_perSecond / 10.0, _balance + (time.GetElapsedTime(_last, now).TotalSeconds * _perSecond)) - bytes;
            _last = now;
            wait = TimeSpan.FromSeconds(Math.Max(0, -_balance / _perSecond));
        }

        return wait < TimeSpan.FromMilliseconds(1) ? ValueTask.CompletedTask : new ValueTask(Task.Delay(wait, time, cancellationToken));
    }
}
