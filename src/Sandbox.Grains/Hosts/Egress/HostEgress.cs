using System.Collections.Concurrent;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Egress;
using Sandbox.Egress.Audit;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Log;
using Sandbox.Egress.Policy;
using Sandbox.Egress.Proxy;
using Sandbox.Egress.Proxy.Tls;
using Sandbox.Egress.Secrets;
using Sandbox.Grains.Hosts.Runtime;
using Sandbox.Grains.Tenants;
using Sandbox.Isolation.Network;
using Sandbox.Snapshots.Keys;

namespace Sandbox.Grains.Hosts.Egress;

/// <summary>What the doors of this host's sessions share: the proxy's server, the way to name servers, tenants' authorities, the model that judges. Safe for concurrent use.</summary>
internal sealed class HostEgress : IAsyncDisposable
{
    private const string LogFolder = "egress";
    private readonly HostOptions _options;
    private readonly TenantSeal? _seal;
    private readonly TimeProvider _clock;
    private readonly ILoggerFactory _loggers;
    private readonly Lazy<Task<ProxyHost>> _proxy;
    private readonly Lazy<DnsClientResolver> _upstream;
    private readonly Lazy<ModelAuditorOptions?> _model;
    private readonly ConcurrentDictionary<string, Lazy<Task<Authority>>> _authorities = new(StringComparer.Ordinal);

    public HostEgress(HostOptions options, TenantSeal? seal, TimeProvider clock, ILoggerFactory loggers)
    {
        (_options, _seal, _clock, _loggers) = (options, seal, clock, loggers);
        Addresses = new PublicAddresses(options.Egress.AlsoPublic);
        _proxy = new Lazy<Task<ProxyHost>>(StartProxyAsync);
        _upstream = new Lazy<DnsClientResolver>(() => new DnsClientResolver(options.Egress.NameServers.Count > 0 ? options.Egress.NameServers : null));
        _model = new Lazy<ModelAuditorOptions?>(ReadModel);
        Contexts = new ProxyContextFactory(null, Addresses, loggers.CreateLogger<ProxyContextFactory>());
    }

    /// <summary>What counts as public here.</summary>
    public PublicAddresses Addresses { get; }

    public IUpstreamResolver Upstream => _upstream.Value;

    public ProxyContextFactory Contexts { get; }

    /// <summary>The model that judges; <see langword="null"/> where the operator has set up none.</summary>
    public ModelAuditorOptions? Model => _model.Value;

    public Task<ProxyHost> ProxyAsync() => _proxy.Value;

    /// <summary>Opens a machine's door.</summary>
    public Task<LiveEgress> OpenAsync(LiveMicroVm machine, IGuestNetwork network, MicroVmEgress egress, CancellationToken cancellationToken)
    {
        var log = new EgressLog(new EgressLogOptions
        {
            Directory = DirectoryOf(machine.SessionId),
            Generation = machine.Generation,
            Continues = new EgressLogState(egress.Mark.NextSeq, egress.Mark.Counters),
            Time = _clock,
            Logger = _loggers.CreateLogger<EgressLog>(),
        });
        return LiveEgress.OpenAsync(this, machine.Start.Tenant, machine.SessionId, network, log, egress, _clock, _loggers, cancellationToken);
    }

    /// <summary>Lines of the log of a session that has no machine here now.</summary>
    public async Task<EgressPage> ReadLogAsync(string sessionId, long from, int max)
    {
        if (!SandboxIds.IsSession(sessionId) || !Directory.Exists(DirectoryOf(sessionId)))
        {
            return new EgressPage([], from, from);
        }

        await using var log = new EgressLog(new EgressLogOptions { Directory = DirectoryOf(sessionId), Time = _clock });
        return await log.ReadAsync(from, max, TimeSpan.Zero);
    }

    /// <summary>Secrets with their values. One that cannot be decrypted fails the policy that names it: a program that silently lacks a credential is worse to find.</summary>
    public async Task<IReadOnlyList<SecretBinding>> OpenSecretsAsync(string tenant, MicroVmEgress egress, CancellationToken cancellationToken)
    {
        var bindings = new List<SecretBinding>();
        foreach (var secret in egress.Material?.Secrets ?? [])
        {
            if (egress.Placeholders.FirstOrDefault(p => p.Name == secret.Info.Name) is { } placeholder)
            {
                var value = await Seal.OpenAsync(tenant, EgressSeals.Secret, secret.Info.Name, secret.Value, cancellationToken);
                bindings.Add(new SecretBinding(secret.Info.Name, placeholder.Placeholder, Encoding.UTF8.GetString(value), secret.Info.Hosts, secret.Info.Headers));
                CryptographicOperations.ZeroMemory(value);
            }
        }

        return bindings;
    }

    /// <summary>Certificates of a tenant's authority, shared by all of its sessions here.</summary>
    public async Task<LeafCertificates> CertificatesAsync(string tenant, EgressMaterial material, CancellationToken cancellationToken)
    {
        var key = $"{tenant}/{material.AuthorityCertificate}";
        var made = _authorities.GetOrAdd(key, _ => new Lazy<Task<Authority>>(() => OpenAuthorityAsync(tenant, material)));
        try
        {
            return (await made.Value.WaitAsync(cancellationToken)).Certificates;
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            _authorities.TryRemove(new KeyValuePair<string, Lazy<Task<Authority>>>(key, made));
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_proxy.IsValueCreated)
        {
            await (await _proxy.Value).DisposeAsync();
        }

        foreach (var authority in _authorities.Values.Where(a => a is { IsValueCreated: true, Value.IsCompletedSuccessfully: true }))
        {
            (await authority.Value).Own.Dispose();
        }
    }

    private TenantSeal Seal => _seal ?? throw new SandboxException(SandboxErrorCode.Unsupported, "The server has no master key, so it can neither use secrets nor look into traffic.");

    private string DirectoryOf(string sessionId) => Path.Combine(_options.SessionDirectory(sessionId), LogFolder);

    private async Task<Authority> OpenAuthorityAsync(string tenant, EgressMaterial material)
    {
        var key = await Seal.OpenAsync(tenant, EgressSeals.Authority, EgressSeals.Authority, material.AuthorityKey, CancellationToken.None);
        try
        {
            var authority = TenantAuthority.Load(material.AuthorityCertificate, key, _clock);
            return new Authority(authority, new LeafCertificates(authority, time: _clock));
        }
        finally
        {
            CryptographicOperations.ZeroMemory(key);
        }
    }

    private Task<ProxyHost> StartProxyAsync()
    {
        var roots = new X509Certificate2Collection();
        if (_options.Egress.RootsFile.Length > 0)
        {
            roots.ImportFromPemFile(_options.Egress.RootsFile);
        }

        return ProxyHost.StartAsync(new ProxyOptions { AlsoReachable = _options.Egress.AlsoPublic, UpstreamRoots = roots }, loggers: _loggers);
    }

    private ModelAuditorOptions? ReadModel()
    {
        var o = _options.Egress;
        return o.AuditorUrl.Length == 0
            ? null
            : new ModelAuditorOptions
            {
                BaseUrl = new Uri(o.AuditorUrl),
                Model = o.AuditorModel,
                ApiKey = o.AuditorKeyFile.Length > 0 ? File.ReadAllText(o.AuditorKeyFile).Trim() : null,
                Timeout = o.AuditorTimeout,
            };
    }

    private sealed record Authority(TenantAuthority Own, LeafCertificates Certificates);
}
