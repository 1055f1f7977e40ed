using System.Text;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Egress.Policy;
using Sandbox.Egress.Proxy.Tls;
using Sandbox.Egress.Secrets;
using Sandbox.Grains.Sessions.State;
using Sandbox.Snapshots.Keys;

namespace Sandbox.Grains.Tenants;

/// <summary>A tenant's default policy, secrets and authority. Values are encrypted before they are stored, and leave this grain encrypted.</summary>
internal sealed class TenantEgressGrain : Grain, ITenantEgressGrain
{
    private const int MaxSecrets = 256;
    private readonly Durable<TenantEgressState> _state;
    private readonly TenantSeal? _seal;
    private readonly TimeProvider _clock;
    private Task<TenantEgressState>? _making;

    public TenantEgressGrain([PersistentState("tenant-egress", StorageNames.Provider)] IPersistentState<TenantEgressState> state, IServiceProvider services, ILogger<TenantEgressGrain> logger)
    {
        _state = new Durable<TenantEgressState>(state, "The tenant's egress settings", logger, DeactivateOnIdle);
        _seal = services.GetService<TenantSeal>();
        _clock = SandboxClock.Of(services);
    }

    private string Tenant => this.GetPrimaryKeyString();

    private TenantSeal Seal => _seal ?? throw new SandboxException(SandboxErrorCode.Unsupported, "The server has no master key to encrypt secrets under.");

    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        _state.Load();
        return Task.CompletedTask;
    }

    public Task<EgressPolicy> GetDefaultAsync() => Task.FromResult(_state.Current.Default);

    public async Task<EgressPolicy> SetDefaultAsync(EgressPolicy policy)
    {
        PolicyValidation.Validate(policy);
        return (await _state.UpdateAsync(s => s with { Default = policy })).Default;
    }

    public Task<IReadOnlyList<EgressPresetInfo>> ListPresetsAsync() =>
        Task.FromResult<IReadOnlyList<EgressPresetInfo>>([.. Presets.All.Select(p => new EgressPresetInfo(p.Name, p.Description, [.. p.Hosts.Select(h => h.Host)]))]);

    public async Task<SecretInfo> PutSecretAsync(SecretSpec secret)
    {
        SecretValidation.Validate(secret.Name, secret.Value, secret.Hosts, secret.Headers);
        var info = new SecretInfo
        {
            Name = secret.Name,
            Hosts = [.. secret.Hosts],
            Headers = secret.Headers.Count > 0 ? [.. secret.Headers.Select(h => h.ToLowerInvariant())] : ["authorization"],
            Variable = secret.Variable ?? secret.Name.ToUpperInvariant().Replace('-', '_'),
            UpdatedAt = _clock.GetUtcNow(),
        };
        var value = await Seal.SealAsync(Tenant, EgressSeals.Secret, secret.Name, Encoding.UTF8.GetBytes(secret.Value), CancellationToken.None);
        await _state.UpdateAsync(s =>
        {
            var others = s.Secrets.Where(k => k.Info.Name != secret.Name).ToList();
            return others.Count < MaxSecrets
                ? s with { Secrets = [.. others.Append(new SealedSecret(info, value)).OrderBy(k => k.Info.Name, StringComparer.Ordinal)] }
                : throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"Tenant {Tenant} has {MaxSecrets} secrets, the most there may be. Delete one first.");
        });
        return info;
    }

    public Task<IReadOnlyList<SecretInfo>> ListSecretsAsync() => Task.FromResult<IReadOnlyList<SecretInfo>>([.. _state.Current.Secrets.Select(s => s.Info)]);

    public Task DeleteSecretAsync(string name) => _state.UpdateAsync(s => s.Secrets.Exists(k => k.Info.Name == name)
        ? s with { Secrets = [.. s.Secrets.Where(k => k.Info.Name != name)] }
        : throw SandboxException.NotFound($"There is no secret '{name}'."));

    public async Task<string> GetAuthorityAsync() => (await WithAuthorityAsync()).AuthorityCertificate!;

    public async Task<EgressMaterial> GetMaterialAsync(IReadOnlyList<string> secrets)
    {
        var state = await WithAuthorityAsync();
        return new EgressMaterial
        {
            Secrets = [.. state.Secrets.Where(s => secrets.Contains(s.Info.Name))],
            AuthorityCertificate = state.AuthorityCertificate!,
            AuthorityKey = state.AuthorityKey,
        };
    }

    /// <summary>The state with an authority in it. Two calls at once make one.</summary>
    private async Task<TenantEgressState> WithAuthorityAsync()
    {
        if (_state.Current.AuthorityCertificate is not null)
        {
            return _state.Current;
        }

        _making ??= MakeAuthorityAsync();
        try
        {
            return await _making;
        }
        finally
        {
            _making = null;
        }
    }

    private async Task<TenantEgressState> MakeAuthorityAsync()
    {
        using var made = TenantAuthority.Create(Tenant);
        var key = await Seal.SealAsync(Tenant, EgressSeals.Authority, EgressSeals.Authority, made.ExportPrivateKey(), CancellationToken.None);
        return await _state.UpdateAsync(s => s.AuthorityCertificate is null ? s with { AuthorityCertificate = made.CertificatePem, AuthorityKey = key } : s);
    }
}

/// <summary>Purposes that a tenant's egress material is sealed for.</summary>
internal static class EgressSeals
{
    public const string Secret = "egress secret";
    public const string Authority = "egress authority";
}
