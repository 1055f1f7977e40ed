namespace Sandbox.Grains.Hosts.Pools;

/// <summary>How often something happens: an average that forgets, so that it follows the load.</summary>
internal sealed class ArrivalRate(TimeProvider clock)
{
    /// <summary>What happened this long ago counts half.</summary>
    private static readonly TimeSpan HalfLife = TimeSpan.FromMinutes(1);
    private DateTimeOffset _at = clock.GetUtcNow();
    private double _weight;

    /// <summary>One arrival, now.</summary>
    public void Note()
    {
        Fade();
        _weight++;
    }

    /// <summary>Arrivals in a second.</summary>
    public double PerSecond
    {
        get
        {
            // A steady stream of r in a second has the weight r * HalfLife / ln 2.
            Fade();
            return _weight * Math.Log(2) / HalfLife.TotalSeconds;
        }
    }

    private void Fade()
    {
        var now = clock.GetUtcNow();
        var age = now - _at;
        if (age > TimeSpan.Zero)
        {
            _weight *= Math.Pow(0.5, age / HalfLife);
            _at = now;
        }
    }
}
