using Sandbox.Abstractions;

namespace Sandbox.Grains.Tenants;

/// <summary>What is stored of a tenant's egress. Immutable: a change is a new one that becomes true once it is written.</summary>
[GenerateSerializer, Alias("sandbox.state.tenant-egress"), Immutable]
internal sealed record TenantEgressState
{
    [Id(0)] public EgressPolicy Default { get; init; } = EgressPolicy.Nothing;

    /// <summary>By name.</summary>
    [Id(1)] public List<SealedSecret> Secrets { get; init; } = [];

    /// <summary>Certificate (PEM), or <see langword="null"/> before it is first needed.</summary>
    [Id(2)] public string? AuthorityCertificate { get; init; }

    /// <summary>Its private key (PKCS #8), encrypted.</summary>
    [Id(3)] public byte[] AuthorityKey { get; init; } = [];
}
