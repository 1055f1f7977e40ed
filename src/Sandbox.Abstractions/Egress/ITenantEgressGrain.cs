namespace Sandbox.Abstractions;

/// <summary>A tenant's side of the controlled door: the policy of sessions that name none, secrets, and the authority that intercepted sites are shown with. Key: tenant id.</summary>
[Alias("sandbox.ITenantEgressGrain")]
public interface ITenantEgressGrain : IGrainWithStringKey
{
    /// <summary>Policy of sessions whose request names none. Until set: <see cref="EgressPolicy.Nothing"/>.</summary>
    [Alias("get-default")]
    Task<EgressPolicy> GetDefaultAsync();

    /// <summary>Sets it, for sessions made from now on.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.InvalidArgument"/>: says which rule is wrong.</exception>
    [Alias("set-default")]
    Task<EgressPolicy> SetDefaultAsync(EgressPolicy policy);

    /// <summary>Names that policies may use for the hosts that a tool needs.</summary>
    [Alias("list-presets")]
    Task<IReadOnlyList<EgressPresetInfo>> ListPresetsAsync();

    /// <summary>Stores a secret, or replaces one. Its value is encrypted under the tenant's key and never told again. Running sessions use a new value within a minute.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.InvalidArgument"/>, or <see cref="SandboxErrorCode.ResourceExhausted"/>: there are 256 already.</exception>
    [Alias("put-secret")]
    Task<SecretInfo> PutSecretAsync(SecretSpec secret);

    /// <summary>Secrets without their values, by name.</summary>
    [Alias("list-secrets")]
    Task<IReadOnlyList<SecretInfo>> ListSecretsAsync();

    /// <summary>Removes a secret. Running sessions cannot use it any more within a minute.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.NotFound"/>.</exception>
    [Alias("delete-secret")]
    Task DeleteSecretAsync(string name);

    /// <summary>The certificate (PEM) that signs for intercepted sites inside the tenant's sessions. Made when it is first asked for. Its key never leaves the servers.</summary>
    [Alias("get-authority")]
    Task<string> GetAuthorityAsync();

    /// <summary>What a host needs for a session of this tenant, encrypted. For silos among themselves. A name that is not there (any more) is left out.</summary>
    [Alias("get-material")]
    Task<EgressMaterial> GetMaterialAsync(IReadOnlyList<string> secrets);
}

/// <summary>A preset.</summary>
/// <param name="Name">Name.</param>
/// <param name="Description">For people: what it is for.</param>
/// <param name="Hosts">What it allows, in the form of a rule's host.</param>
[GenerateSerializer, Alias("sandbox.egress-preset"), Immutable]
public sealed record EgressPresetInfo([property: Id(0)] string Name, [property: Id(1)] string Description, [property: Id(2)] IReadOnlyList<string> Hosts);

/// <summary>A secret to store.</summary>
[GenerateSerializer, Alias("sandbox.secret-spec"), Immutable]
public sealed record SecretSpec
{
    /// <summary><c>[a-z][a-z0-9-]{0,62}</c>.</summary>
    [Id(0)] public required string Name { get; init; }

    /// <summary>The value, 1 to 16 KiB without control characters.</summary>
    [Id(1)] public required string Value { get; init; }

    /// <summary>Hosts that it may be sent to, in the form of a rule's host but never <c>*</c>. 1 to 32.</summary>
    [Id(2)] public required IReadOnlyList<string> Hosts { get; init; }

    /// <summary>Headers that it may stand in, at most 16. Empty: <c>authorization</c>.</summary>
    [Id(3)] public IReadOnlyList<string> Headers { get; init; } = [];

    /// <summary>Environment variable of executions that holds the placeholder; unset: the name in capitals with <c>_</c> for <c>-</c>.</summary>
    [Id(4)] public string? Variable { get; init; }

    /// <inheritdoc/>
    public override string ToString() => $"secret {Name}";
}

/// <summary>A secret without its value.</summary>
[GenerateSerializer, Alias("sandbox.secret-info"), Immutable]
public sealed record SecretInfo
{
    /// <summary>Name.</summary>
    [Id(0)] public required string Name { get; init; }

    /// <summary>Hosts that it may be sent to.</summary>
    [Id(1)] public required IReadOnlyList<string> Hosts { get; init; }

    /// <summary>Headers that it may stand in.</summary>
    [Id(2)] public required IReadOnlyList<string> Headers { get; init; }

    /// <summary>Environment variable of executions that holds the placeholder.</summary>
    [Id(3)] public required string Variable { get; init; }

    /// <summary>When it was stored (UTC).</summary>
    [Id(4)] public required DateTimeOffset UpdatedAt { get; init; }
}

/// <summary>What a host needs of a tenant, encrypted under the tenant's key.</summary>
[GenerateSerializer, Alias("sandbox.egress-material"), Immutable]
public sealed record EgressMaterial
{
    /// <summary>Secrets.</summary>
    [Id(0)] public IReadOnlyList<SealedSecret> Secrets { get; init; } = [];

    /// <summary>Certificate of the authority (PEM).</summary>
    [Id(1)] public required string AuthorityCertificate { get; init; }

    /// <summary>Its private key, encrypted.</summary>
    [Id(2)] public required byte[] AuthorityKey { get; init; }
}

/// <summary>A secret with its value encrypted.</summary>
[GenerateSerializer, Alias("sandbox.sealed-secret"), Immutable]
public sealed record SealedSecret([property: Id(0)] SecretInfo Info, [property: Id(1)] byte[] Value);
