using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Egress.Limits;
using Sandbox.Egress.Proxy.Connections;
using Sandbox.Egress.Proxy.Http;
using Sandbox.Egress.Proxy.Tls;

namespace Sandbox.Egress.Proxy;

/// <summary>The proxy of one session, as long as its machine runs. Safe for concurrent use.</summary>
public sealed class SessionProxy : IAsyncDisposable
{
    private static readonly TimeSpan EndLimit = TimeSpan.FromSeconds(5);
    private readonly IConnectionSource _source;
    private readonly ConcurrentDictionary<GuestConnection, bool> _connections = [];
    private readonly CancellationTokenSource _stopped = new();
    private readonly TokenBucket _arrivals;
    private readonly ByteRate _up;
    private readonly ByteRate _down;
    private readonly ITimer _sweep;
    private readonly Task _accepting;
    private readonly Lazy<UpstreamClient> _upstream;
    private ProxyContext _context;
    private int _isDisposed;

    private SessionProxy(ProxyHost host, IConnectionSource source, ProxyContext context, LeafCertificates? certificates)
    {
        (Host, _source, _context, Certificates) = (host, source, context, certificates);
        _arrivals = new TokenBucket(host.Time);
        _upstream = new Lazy<UpstreamClient>(() => new UpstreamClient(host.Options, host.Dialer, Context.Decisions.Source.Limits.Connections));
        _up = new ByteRate(host.Time);
        _down = new ByteRate(host.Time);
        SetRates(context);
        var period = TimeSpan.FromTicks(Math.Clamp(host.Options.IdleLimit.Ticks / 10, TimeSpan.TicksPerSecond / 10, TimeSpan.TicksPerSecond * 30));
        _sweep = host.Time.CreateTimer(_ => EndIdle(), null, period, period);
        _accepting = Task.Run(AcceptAsync);
    }

    /// <summary>What it decides by now.</summary>
    public ProxyContext Context => Volatile.Read(ref _context);

    /// <summary>Connections that are open.</summary>
    public int OpenConnections => _connections.Count;

    internal ProxyHost Host { get; }

    internal LeafCertificates? Certificates { get; private set; }

    /// <summary>Made when the first request is sent on: most sessions have nothing looked into.</summary>
    internal UpstreamClient Upstream => _upstream.Value;

    internal AuditSlots AuditSlots { get; } = new();

    /// <summary>Starts to take connections.</summary>
    /// <param name="host">What the sessions of this host share.</param>
    /// <param name="source">Where connections come from; disposed of with the proxy.</param>
    /// <param name="context">What to decide by.</param>
    /// <param name="certificates">Certificates of the tenant's authority, shared by its sessions. Unset: connections that are to be looked into fail.</param>
    public static SessionProxy Start(ProxyHost host, IConnectionSource source, ProxyContext context, LeafCertificates? certificates)
    {
        ArgumentNullException.ThrowIfNull(host);
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(context);
        return new SessionProxy(host, source, context, certificates);
    }

    /// <summary>
    /// Decides by something else from now on. Connections and requests that it permits no more are ended, those that must be looked into now and were not as well; all others go on untouched. Returns when those that were
    /// ended are over.
    /// </summary>
    /// <param name="context">What to decide by.</param>
    /// <param name="certificates">Certificates of the tenant's authority, where it had none before; those it had stay.</param>
    public async Task UpdateAsync(ProxyContext context, LeafCertificates? certificates = null)
    {
        ArgumentNullException.ThrowIfNull(context);

        // Before the context: whoever sees that it must look inside finds what it needs for that.
        Certificates ??= certificates;
        Interlocked.Exchange(ref _context, context);
        SetRates(context);
        var ended = _connections.Keys.Where(c => c.Reconsider(context)).Select(c => c.Completion).ToList();
        await Task.WhenAny(Task.WhenAll(ended), Task.Delay(EndLimit));
    }

    /// <summary>Ends all connections there are and goes on taking new ones: for a machine that is about to stand still for long, so that its programs are told while they can be.</summary>
    /// <param name="reason">For the log.</param>
    /// <returns>How many there were.</returns>
    public async Task<int> EndConnectionsAsync(string reason)
    {
        var open = _connections.Keys.ToList();
        foreach (var connection in open)
        {
            connection.Break(new ConnectionEnd(null, null, reason));
        }

        await Task.WhenAny(Task.WhenAll(open.Select(c => c.Completion)), Task.Delay(EndLimit));
        return open.Count;
    }

    /// <summary>Takes no more connections and ends all there are.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) != 0)
        {
            return;
        }

        await _sweep.DisposeAsync();
        await _stopped.CancelAsync();
        _source.Dispose();
        await _accepting;
        foreach (var connection in _connections.Keys)
        {
            connection.Break(new ConnectionEnd(null, null, "The session's machine was stopped."));
        }

        await Task.WhenAny(Task.WhenAll(_connections.Keys.Select(c => c.Completion)), Task.Delay(EndLimit));
        if (_upstream.IsValueCreated)
        {
            _upstream.Value.Dispose();
        }

        AuditSlots.Dispose();
        _stopped.Dispose();
    }

    private void SetRates(ProxyContext context)
    {
        var limit = context.Decisions.Source.Limits.BytesPerSecond ?? 0;
        (_up.PerSecond, _down.PerSecond) = (limit, limit);
    }

    private async Task AcceptAsync()
    {
        try
        {
            while (await _source.AcceptAsync(_stopped.Token) is { } accepted)
            {
                Take(accepted);
            }
        }
        catch (OperationCanceledException) when (_stopped.IsCancellationRequested)
        {
            // Disposed of.
        }
        catch (Exception e)
        {
            // A session without a proxy reaches nothing; the host and its other sessions go on.
            Host.Logger.LogError(e, "The proxy of session {Session} takes no more connections.", Context.SessionId);
        }
    }

    private void Take(AcceptedConnection accepted)
    {
        var limits = Context.Decisions.Source.Limits;
        var connection = new GuestConnection(this, accepted, new Traffic(_up, _down, Host.Time));
        if (_connections.Count >= limits.Connections)
        {
            Turn(connection, $"{limits.Connections} connections are open, which is the session's limit.");
            return;
        }

        if (!_arrivals.TryTake(limits.ConnectionsPerSecond))
        {
            Turn(connection, $"More than {limits.ConnectionsPerSecond} connections in a second, which is the session's limit.");
            return;
        }

        _connections[connection] = true;
        connection.Completion = ServeAsync(connection);
    }

    private static void Turn(GuestConnection connection, string reason)
    {
        connection.Log(EgressOutcome.Denied, "limits", reason);
        Splice.Reset(connection.Socket);
        connection.Dispose();
    }

    private async Task ServeAsync(GuestConnection connection)
    {
        // The accept loop goes on meanwhile.
        await Task.Yield();
        try
        {
            await Host.Connections.ServeAsync(connection);
        }
        catch (Exception e)
        {
            // A fault of ours ends this connection, and nothing else.
            Host.Logger.LogError(e, "A connection of session {Session} failed.", Context.SessionId);
            Splice.Reset(connection.Socket);
        }
        finally
        {
            _connections.TryRemove(connection, out _);
            connection.Dispose();
        }
    }

    private void EndIdle()
    {
        foreach (var connection in _connections.Keys)
        {
            if (connection.Traffic.Idle > Host.Options.IdleLimit)
            {
                connection.Break(new ConnectionEnd(null, null, $"Nothing moved for {Host.Options.IdleLimit.TotalMinutes:0.#} minutes."));
            }
        }
    }
}
