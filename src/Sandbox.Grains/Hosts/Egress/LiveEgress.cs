using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Egress;
using Sandbox.Egress.Audit;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Log;
using Sandbox.Egress.Policy;
using Sandbox.Egress.Proxy;
using Sandbox.Egress.Proxy.Tls;
using Sandbox.Isolation.Network;

namespace Sandbox.Grains.Hosts.Egress;

/// <summary>One machine's door: its DNS, its proxy, its firewall's openings and its log. Open from when the machine has begun to serve its session until it is gone.</summary>
internal sealed class LiveEgress : IAsyncDisposable
{
    private static readonly TimeSpan DropsPeriod = TimeSpan.FromMinutes(1);

    /// <summary>What an emulated machine takes to read a packet that is there, with some to spare.</summary>
    private static readonly TimeSpan NoticeTime = TimeSpan.FromMilliseconds(50);

    private readonly HostEgress _host;
    private readonly string _tenant;
    private readonly string _sessionId;
    private readonly IGuestNetwork _network;
    private readonly EgressLog _log;
    private readonly PinnedNames _names;
    private readonly AuditMemory _memory;
    private readonly NameResolver _resolver;
    private readonly SemaphoreSlim _turn = new(1, 1);
    private readonly ILogger _logger;
    private readonly DropLog _dropLog;
    private readonly ITimer _drops;
    private SessionDns? _dns;
    private SessionProxy? _proxy;
    private bool _disposed;

    private LiveEgress(HostEgress host, string tenant, string sessionId, IGuestNetwork network, EgressLog log, MicroVmEgress egress, TimeProvider clock, ILogger logger)
    {
        (_host, _tenant, _sessionId, _network, _log, _logger, Present) = (host, tenant, sessionId, network, log, logger, egress);
        (_resolver, _names) = SessionNames.Over(host.Upstream, host.Addresses, clock);
        _memory = new AuditMemory(time: clock);
        _dropLog = new DropLog(log);
        _drops = clock.CreateTimer(_ => _ = CountDropsAsync(), null, DropsPeriod, DropsPeriod);
    }

    /// <summary>What the machine is held to.</summary>
    public MicroVmEgress Present { get; private set; }

    public long Version => Present.Version;

    public static async Task<LiveEgress> OpenAsync(
        HostEgress host, string tenant, string sessionId, IGuestNetwork network, EgressLog log, MicroVmEgress egress, TimeProvider clock, ILoggerFactory loggers, CancellationToken cancellationToken)
    {
        var live = new LiveEgress(host, tenant, sessionId, network, log, egress, clock, loggers.CreateLogger<LiveEgress>());
        try
        {
            var context = await live.ContextAsync(egress, cancellationToken);
            var decisions = (CompiledPolicy)context.Decisions;
            await network.ReplaceAsync(decisions.Ranges, [], cancellationToken);
            live._dns = new SessionDns(new SessionDnsParts
            {
                Decisions = decisions,
                Resolver = live._resolver,
                Names = live._names,
                Log = log,
                Open = network.OpenAsync,
                Time = clock,
                Logger = loggers.CreateLogger<SessionDns>(),
            });
            live._dns.Serve(network.BindDatagram(NetworkPlan.DnsPort), network.Listen(NetworkPlan.DnsPort));
            live._proxy = SessionProxy.Start(await host.ProxyAsync(), new GuestConnectionSource(network), context, await live.CertificatesAsync(egress, cancellationToken));
            return live;
        }
        catch
        {
            await live.DisposeAsync();
            throw;
        }
    }

    /// <summary>Holds the machine to another policy. The proxy goes first, because every connection ends there: from then on nothing new passes that the policy denies, and what is open and denied is ended.</summary>
    public async Task UpdateAsync(MicroVmEgress egress, CancellationToken cancellationToken)
    {
        await _turn.WaitAsync(cancellationToken);
        try
        {
            if (_disposed || egress.Version < Present.Version)
            {
                return;
            }

            var context = await ContextAsync(egress, cancellationToken);
            var decisions = (CompiledPolicy)context.Decisions;
            await _proxy!.UpdateAsync(context, await CertificatesAsync(egress, cancellationToken));
            await _network.ReplaceAsync(decisions.Ranges, _names.EndpointsUnder(decisions), cancellationToken);

            // Last: it then knows nothing to be open that the firewall has just closed.
            _dns!.Decisions = decisions;
            if (egress.Version > Present.Version)
            {
                _log.Write(new EgressRecord { Kind = EgressRecordKind.Policy, Outcome = EgressOutcome.Allowed, Reason = $"policy version {egress.Version} is in force" });
            }

            Present = egress;
        }
        finally
        {
            _turn.Release();
        }
    }

    public async Task<EgressMark> MarkAsync()
    {
        await CountDropsAsync();
        var state = _log.Export();
        return new EgressMark { Counters = state.Counters, NextSeq = state.NextSeq, Network = true };
    }

    /// <summary>
    /// Ends the machine's connections before it is saved to stand still: none of them is there any more when it goes on, perhaps days later on another host, and a program that only waits for data would not notice. The
    /// guest is given a moment to take notice.
    /// </summary>
    public async Task EndConnectionsAsync(CancellationToken cancellationToken)
    {
        if (_proxy is { } proxy && await proxy.EndConnectionsAsync("the session is being paused") > 0)
        {
            await Task.Delay(NoticeTime, cancellationToken);
        }
    }

    public Task<EgressPage> ReadLogAsync(long from, int max, TimeSpan wait) => _log.ReadAsync(from, max, wait);

    public async ValueTask DisposeAsync()
    {
        await _turn.WaitAsync();
        try
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
            await _drops.DisposeAsync();
            if (_dns is not null)
            {
                await _dns.DisposeAsync();
            }

            if (_proxy is not null)
            {
                await _proxy.DisposeAsync();
            }

            await _log.DisposeAsync();
        }
        finally
        {
            _turn.Release();
        }
    }

    private async Task<ProxyContext> ContextAsync(MicroVmEgress egress, CancellationToken cancellationToken)
    {
        foreach (var decision in egress.Decisions)
        {
            _memory.Owner.Remember(new OwnerDecision(decision.Host, decision.Method, decision.Path, decision.Allow));
        }

        // A secret that was deleted since the policy was set is not there any more; what it stood for fails, and nothing else.
        var secrets = await _host.OpenSecretsAsync(_tenant, egress, cancellationToken);
        var policy = egress.Policy with { Secrets = [.. egress.Policy.Secrets.Where(n => secrets.Any(s => s.Name == n))] };
        return _host.Contexts.Create(_tenant, _sessionId, new EgressSettings { Policy = policy, Secrets = secrets, Model = _host.Model }, _names, _log, _memory);
    }

    private async Task<LeafCertificates?> CertificatesAsync(MicroVmEgress egress, CancellationToken cancellationToken) =>
        egress.Material is { } material ? await _host.CertificatesAsync(_tenant, material, cancellationToken) : null;

    /// <summary>What the firewall dropped since it was last asked goes into the log, by reason.</summary>
    private async Task CountDropsAsync()
    {
        try
        {
            _dropLog.Observe(await _network.ReadDropsAsync(CancellationToken.None));
        }
        catch (Exception e)
        {
            _logger.LogDebug(e, "The drops of session {Session} cannot be read", _sessionId);
        }
    }
}
