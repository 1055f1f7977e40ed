using System.Net.Security;
using System.Security.Cryptography;

namespace Sandbox.Egress.Proxy.Tls;

/// <summary>
/// Certificates that one authority signed, kept because making one takes milliseconds: for as many names as were used last. One for each tenant and host; safe for concurrent use. The authority stays its owner's.
/// </summary>
public sealed class LeafCertificates
{
    // A key for each certificate would cost more and guard nothing: all are held by this process.
    private static readonly ECDsa Key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private static readonly TimeSpan Renewal = TimeSpan.FromDays(2);
    private readonly ICertificateAuthority _authority;
    private readonly TimeProvider _time;
    private readonly int _capacity;
    private readonly Lock _lock = new();
    private readonly Dictionary<string, LinkedListNode<Leaf>> _byName = new(StringComparer.Ordinal);
    private readonly LinkedList<Leaf> _byUse = [];

    /// <param name="authority">Who signs.</param>
    /// <param name="capacity">Most certificates to keep. Default 512; about 4 KB each.</param>
    /// <param name="time">Clock.</param>
    public LeafCertificates(ICertificateAuthority authority, int capacity = 512, TimeProvider? time = null)
    {
        ArgumentNullException.ThrowIfNull(authority);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(capacity);
        (_authority, _capacity, _time) = (authority, capacity, time ?? TimeProvider.System);
    }

    /// <summary>How many there are.</summary>
    public int Count
    {
        get
        {
            lock (_lock)
            {
                return _byUse.Count;
            }
        }
    }

    /// <summary>The certificate for a name, made if there is none that is good for two more days.</summary>
    /// <param name="name">Name in lower case ASCII, or an address.</param>
    public SslStreamCertificateContext For(string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        lock (_lock)
        {
            if (_byName.TryGetValue(name, out var found))
            {
                _byUse.Remove(found);
                if (found.Value.RenewAt > _time.GetUtcNow())
                {
                    _byUse.AddFirst(found);
                    return found.Value.Context;
                }

                _byName.Remove(name);
            }
        }

        // Outside of the lock: two connections that need the same one at first may both make it, and others need not wait.
        var certificate = _authority.Issue(name, Key);
        var leaf = new Leaf(name, SslStreamCertificateContext.Create(certificate, additionalCertificates: null, offline: true), certificate.NotAfter.ToUniversalTime() - Renewal);
        lock (_lock)
        {
            if (_byName.Remove(name, out var other))
            {
                _byUse.Remove(other);
            }

            _byName[name] = _byUse.AddFirst(leaf);
            while (_byUse.Count > _capacity)
            {
                // Not disposed of: a handshake may be using it. The finalizer does.
                _byName.Remove(_byUse.Last!.Value.Name);
                _byUse.RemoveLast();
            }
        }

        return leaf.Context;
    }

    private sealed record Leaf(string Name, SslStreamCertificateContext Context, DateTimeOffset RenewAt);
}
