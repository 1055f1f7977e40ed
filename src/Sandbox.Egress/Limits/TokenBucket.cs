namespace Sandbox.Egress.Limits;

/// <summary>Lets so many pass in a second (connections, questions), and twice as many at once after a pause. Thread-safe.</summary>
/// <param name="time">Clock.</param>
internal sealed class TokenBucket(TimeProvider time)
{
    private readonly Lock _lock = new();
    private double _tokens = double.MaxValue;
    private long _last = time.GetTimestamp();

    /// <summary>Takes one, if there is one.</summary>
    /// <param name="perSecond">As the limit is now.</param>
    public bool TryTake(int perSecond)
    {
        lock (_lock)
        {
            var now = time.GetTimestamp();
            _tokens = Math.Min(perSecond * 2.0, _tokens + (time.GetElapsedTime(_last, now).TotalSeconds * perSecond));
            _last = now;
            if (_tokens < 1)
            {
                return false;
            }

            _tokens--;
            return true;
        }
    }
}
