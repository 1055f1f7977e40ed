namespace Sandbox.Grains.Hosts.Pools;

/// <summary>How many machines a pool should have ready.</summary>
internal static class PoolSize
{
    /// <summary>Enough for the sessions that arrive while two refills are made, between the floor and the ceiling, and never more than there is memory for.</summary>
    /// <param name="arrivalsPerSecond">Observed.</param>
    /// <param name="refill">How long making one machine takes.</param>
    /// <param name="floor">Least, where memory allows.</param>
    /// <param name="ceiling">Most.</param>
    /// <param name="room">How many the host's free memory has room for, those that are ready included.</param>
    public static int Target(double arrivalsPerSecond, TimeSpan refill, int floor, int ceiling, int room)
    {
        var expected = (int)Math.Min(1000, Math.Ceiling(arrivalsPerSecond * refill.TotalSeconds * 2));
        return Math.Max(0, Math.Min(Math.Clamp(expected, Math.Min(floor, ceiling), ceiling), room));
    }
}
