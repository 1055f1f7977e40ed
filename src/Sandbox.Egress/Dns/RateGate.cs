namespace Sandbox.Egress.Dns;

/// <summary>Lets so many pass in a second, and twice as many in a burst. Safe for concurrent use.</summary>
internal sealed class RateGate(TimeProvider time)
{
    private readonly Lock _gate = new();
    private double _tokens = double.MaxValue;
    private long _last = time.GetTimestamp();

    public bool TryPass(int perSecond)
    {
        lock (_gate)
        {
            var now = time.GetTimestamp();
            _tokens = Math.Min(2.0 * perSecond, _tokens + (time.GetElapsedTime(_last, now).TotalSeconds * perSecond));
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
