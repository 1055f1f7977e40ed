using System.Net;
using Sandbox.Egress.Policy;
using Sandbox.Isolation.Network;

namespace Sandbox.Egress.Dns;

/// <summary>
/// What our DNS told one session, kept as long as it was told for and <see cref="Grace"/> more, so that a connection that is being made when the time is up still finds it. At most 4096 at a time; those that end first make room.
/// Safe for concurrent use.
/// </summary>
/// <param name="resolver">For <see cref="ResolveAsync"/>.</param>
/// <param name="time">Clock.</param>
public sealed class PinnedNames(NameResolver resolver, TimeProvider? time = null) : IPinnedNames
{
    /// <summary>How long a pin, and the firewall with it, outlives what the guest was told.</summary>
    public static readonly TimeSpan Grace = TimeSpan.FromSeconds(120);

    /// <summary>Most pins.</summary>
    public const int Capacity = 4096;

    private readonly TimeProvider _time = time ?? TimeProvider.System;
    private readonly Lock _gate = new();
    private readonly Dictionary<(string Name, IPAddress Address), DateTimeOffset> _pins = [];
    private readonly Dictionary<IPAddress, string> _last = [];

    /// <summary>How many there are.</summary>
    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _pins.Count;
            }
        }
    }

    /// <summary>Notes what a session is about to be told.</summary>
    /// <param name="name">Lower case, without a final dot.</param>
    /// <param name="addresses">The addresses.</param>
    /// <param name="ttl">How long it is told that they hold.</param>
    public void Pin(string name, IReadOnlyList<IPAddress> addresses, TimeSpan ttl)
    {
        ArgumentNullException.ThrowIfNull(addresses);
        var until = _time.GetUtcNow() + ttl + Grace;
        lock (_gate)
        {
            foreach (var address in addresses)
            {
                _pins[(name, address)] = _pins.TryGetValue((name, address), out var before) && before > until ? before : until;
                _last[address] = name;
            }

            if (_pins.Count > Capacity)
            {
                MakeRoom();
            }
        }
    }

    /// <inheritdoc/>
    public bool Holds(string name, IPAddress address)
    {
        lock (_gate)
        {
            return _pins.TryGetValue((name, address), out var until) && until > _time.GetUtcNow();
        }
    }

    /// <inheritdoc/>
    public string? NameOf(IPAddress address)
    {
        lock (_gate)
        {
            if (_last.TryGetValue(address, out var name) && _pins.TryGetValue((name, address), out var until) && until > _time.GetUtcNow())
            {
                return name;
            }

            var now = _time.GetUtcNow();
            return _pins.Where(p => p.Key.Address.Equals(address) && p.Value > now).OrderByDescending(p => p.Value).Select(p => p.Key.Name).FirstOrDefault();
        }
    }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<IPAddress>> ResolveAsync(string name, CancellationToken cancellationToken) => (await resolver.ResolveAsync(name, cancellationToken).ConfigureAwait(false)).Addresses;

    /// <summary>What the firewall must have open for these pins under a policy, each for the time it has left. For <see cref="IGuestNetwork.ReplaceAsync"/> when the policy changes, together with <see cref="CompiledPolicy.Ranges"/>.</summary>
    public IReadOnlyList<OpenEndpoint> EndpointsUnder(IEgressDecisions decisions)
    {
        ArgumentNullException.ThrowIfNull(decisions);
        KeyValuePair<(string Name, IPAddress Address), DateTimeOffset>[] pins;
        lock (_gate)
        {
            pins = [.. _pins];
        }

        var now = _time.GetUtcNow();
        var ports = pins.Select(p => p.Key.Name).Distinct().ToDictionary(n => n, n => decisions.JudgeName(n).Ports, StringComparer.Ordinal);
        return
        [
            .. pins.Where(p => p.Value > now)
                .SelectMany(p => ports[p.Key.Name].Select(port => new OpenEndpoint(p.Key.Address, port, p.Value - now)))
                .GroupBy(e => (e.Address, e.Port)).Select(g => g.MaxBy(e => e.Lifetime)!),
        ];
    }

    // Makes a quarter of the room free at once, so that a guest that fills it does not have it sorted for every name.
    private void MakeRoom()
    {
        var now = _time.GetUtcNow();
        var left = _pins.Where(p => p.Value > now).OrderByDescending(p => p.Value).Take(Capacity * 3 / 4).ToArray();
        _pins.Clear();
        foreach (var (key, until) in left)
        {
            _pins[key] = until;
        }

        foreach (var address in _last.Where(l => !_pins.ContainsKey((l.Value, l.Key))).Select(l => l.Key).ToArray())
        {
            _last.Remove(address);
        }
    }
}
