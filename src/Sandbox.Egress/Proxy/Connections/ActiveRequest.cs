namespace Sandbox.Egress.Proxy.Connections;

/// <summary>A request that is under way, for when the policy changes.</summary>
/// <param name="method">Method.</param>
/// <param name="path">Path as it came.</param>
/// <param name="abort">Ends it.</param>
internal sealed class ActiveRequest(string method, string path, Action abort)
{
    private string? _ended;

    /// <summary>Method.</summary>
    public string Method => method;

    /// <summary>Path.</summary>
    public string Path => path;

    /// <summary>Why it was ended by us; <see langword="null"/>: it was not.</summary>
    public string? Ended => Volatile.Read(ref _ended);

    /// <summary>Ends it.</summary>
    public void End(string reason)
    {
        if (Interlocked.CompareExchange(ref _ended, reason, null) is null)
        {
            abort();
        }
    }
}
