using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <content>What all of the tenant's sessions have of the controlled door.</content>
public sealed partial class SandboxClient
{
    private ITenantEgressGrain TenantEgress => _grains.GetGrain<ITenantEgressGrain>(Tenant);

    /// <summary>Stores a credential that sessions can use without having it, or replaces one. Its value is encrypted and never told again.</summary>
    /// <exception cref="SandboxException">As <see cref="ITenantEgressGrain.PutSecretAsync"/>.</exception>
    public Task<SecretInfo> PutSecretAsync(SecretSpec secret, CancellationToken cancellationToken = default) => Caller.RetryAsync(() => TenantEgress.PutSecretAsync(secret), cancellationToken);

    /// <summary>The tenant's secrets without their values, by name.</summary>
    public Task<IReadOnlyList<SecretInfo>> ListSecretsAsync(CancellationToken cancellationToken = default) => Caller.RetryAsync(() => TenantEgress.ListSecretsAsync(), cancellationToken);

    /// <summary>Deletes a secret. Running sessions cannot use it any more within a minute.</summary>
    /// <exception cref="SandboxException">As <see cref="ITenantEgressGrain.DeleteSecretAsync"/>. A call whose answer was lost is not repeated.</exception>
    public Task DeleteSecretAsync(string name, CancellationToken cancellationToken = default) => Caller.OnceAsync(() => TenantEgress.DeleteSecretAsync(name), cancellationToken);

    /// <summary>The policy of sessions whose request names none.</summary>
    public Task<EgressPolicy> GetDefaultEgressAsync(CancellationToken cancellationToken = default) => Caller.RetryAsync(() => TenantEgress.GetDefaultAsync(), cancellationToken);

    /// <summary>Sets it, for sessions made from now on.</summary>
    /// <exception cref="SandboxException">As <see cref="ITenantEgressGrain.SetDefaultAsync"/>.</exception>
    public Task<EgressPolicy> SetDefaultEgressAsync(EgressPolicy policy, CancellationToken cancellationToken = default) => Caller.RetryAsync(() => TenantEgress.SetDefaultAsync(policy), cancellationToken);
}
