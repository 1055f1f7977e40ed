using Sandbox.Abstractions;

namespace Sandbox.Grains.Tenants;

/// <summary>What is stored of a tenant.</summary>
[GenerateSerializer, Alias("sandbox.state.tenant")]
internal sealed record TenantState
{
    [Id(0)] public List<StoredKey> Keys { get; set; } = [];
}

/// <summary>A key as stored: never its text.</summary>
[GenerateSerializer, Alias("sandbox.state.api-key")]
internal sealed record StoredKey
{
    [Id(0)] public required ApiKeyInfo Info { get; init; }

    /// <summary>SHA-256 of the key's text, in hexadecimal.</summary>
    [Id(1)] public required string Hash { get; init; }
}
