using System.Net;
using System.Net.Sockets;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Dns;

/// <summary>What a name resolved to.</summary>
/// <param name="Status">How it went.</param>
/// <param name="Addresses">Public IPv4 addresses.</param>
/// <param name="Stripped">How many addresses were taken out because they are not public.</param>
/// <param name="Ttl">How long it still holds.</param>
public sealed record ResolvedName(UpstreamStatus Status, IReadOnlyList<IPAddress> Addresses, int Stripped, TimeSpan Ttl);

/// <summary>
/// Resolves names for one session: takes out addresses that are not public, asks once for what many want at the same time, and keeps answers for a little while (at most 512). Safe for concurrent use.
/// </summary>
/// <param name="upstream">Who is asked.</param>
/// <param name="addresses">What counts as public; <see langword="null"/>: <see cref="PublicAddresses.Default"/>.</param>
/// <param name="time">Clock.</param>
public sealed class NameResolver(IUpstreamResolver upstream, PublicAddresses? addresses = null, TimeProvider? time = null)
{
    /// <summary>Shortest time that an answer is given for.</summary>
    public static readonly TimeSpan MinTtl = TimeSpan.FromSeconds(5);

    /// <summary>Longest time that an answer is given for.</summary>
    public static readonly TimeSpan MaxTtl = TimeSpan.FromSeconds(300);

    private const int Capacity = 512;
    private static readonly TimeSpan AskTime = TimeSpan.FromSeconds(10);
    private readonly PublicAddresses _addresses = addresses ?? PublicAddresses.Default;
    private readonly TimeProvider _time = time ?? TimeProvider.System;
    private readonly Lock _gate = new();
    private readonly Dictionary<string, (ResolvedName Answer, DateTimeOffset Until)> _cache = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Task<ResolvedName>> _asking = new(StringComparer.Ordinal);

    /// <summary>What is kept of a name, without asking anybody; <see langword="null"/>: nothing.</summary>
    public ResolvedName? Cached(string name)
    {
        lock (_gate)
        {
            return Kept(name);
        }
    }

    /// <summary>Resolves a name. A failure is an answer, not an exception.</summary>
    /// <exception cref="OperationCanceledException">The caller gave up; the question goes on for others.</exception>
    public Task<ResolvedName> ResolveAsync(string name, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(name);
        TaskCompletionSource<ResolvedName> mine;
        lock (_gate)
        {
            if (Kept(name) is { } kept)
            {
                return Task.FromResult(kept);
            }

            if (_asking.TryGetValue(name, out var asked))
            {
                return asked.WaitAsync(cancellationToken);
            }

            mine = new TaskCompletionSource<ResolvedName>(TaskCreationOptions.RunContinuationsAsynchronously);
            _asking[name] = mine.Task;
        }

        _ = AskAsync(name, mine);
        return mine.Task.WaitAsync(cancellationToken);
    }

    private async Task AskAsync(string name, TaskCompletionSource<ResolvedName> to)
    {
        ResolvedName answer;
        try
        {
            using var limit = new CancellationTokenSource(AskTime, _time);
            answer = Judge(await upstream.ResolveAsync(name, limit.Token).WaitAsync(limit.Token).ConfigureAwait(false));
        }
        catch (Exception)
        {
            // Whatever a resolver fails with, those who wait get an answer.
            answer = new ResolvedName(UpstreamStatus.Failed, [], 0, TimeSpan.Zero);
        }

        lock (_gate)
        {
            _asking.Remove(name);
            if (answer.Status != UpstreamStatus.Failed)
            {
                if (_cache.Count >= Capacity)
                {
                    MakeRoom();
                }

                _cache[name] = (answer, _time.GetUtcNow() + answer.Ttl);
            }
        }

        to.SetResult(answer);
    }

    private ResolvedName Judge(UpstreamAnswer answer)
    {
        var good = answer.Addresses.Where(a => a.AddressFamily == AddressFamily.InterNetwork && _addresses.IsPublic(a)).Distinct().Take(DnsReply.MaxAddresses).ToArray();
        var stripped = answer.Addresses.Count(a => !_addresses.IsPublic(a));

        // What does not exist may soon do so: it is asked for again early.
        var ttl = good.Length == 0 || answer.Ttl < MinTtl ? MinTtl : answer.Ttl > MaxTtl ? MaxTtl : answer.Ttl;
        return new ResolvedName(answer.Status, good, stripped, ttl);
    }

    private ResolvedName? Kept(string name)
    {
        if (!_cache.TryGetValue(name, out var kept))
        {
            return null;
        }

        var left = kept.Until - _time.GetUtcNow();
        if (left < TimeSpan.FromSeconds(1))
        {
            _cache.Remove(name);
            return null;
        }

        return kept.Answer with { Ttl = left };
    }

    private void MakeRoom()
    {
        var now = _time.GetUtcNow();
        foreach (var old in _cache.Where(e => e.Value.Until <= now).Select(e => e.Key).ToArray())
        {
            _cache.Remove(old);
        }

        foreach (var old in _cache.OrderBy(e => e.Value.Until).Take(_cache.Count - Capacity + 1).Select(e => e.Key).ToArray())
        {
            _cache.Remove(old);
        }
    }
}
