using Orleans.Concurrency;

namespace Sandbox.Abstractions;

/// <summary>A tenant's API keys. Key: tenant id, <c>[a-z][a-z0-9-]{0,39}</c>.</summary>
[Alias("sandbox.ITenantGrain")]
public interface ITenantGrain : IGrainWithStringKey
{
    /// <summary>Makes a key; the answer is the only time its text is seen. Form: <c>sbx_&lt;tenant&gt;_&lt;secret&gt;</c>. Only a SHA-256 of it is stored.</summary>
    [Alias("create-key")]
    Task<CreatedApiKey> CreateKeyAsync(string name);

    /// <summary>Whether a key text is valid now.</summary>
    [Alias("verify-key"), AlwaysInterleave]
    Task<bool> VerifyKeyAsync(string key);

    /// <summary>Keys without their texts.</summary>
    [Alias("list-keys")]
    Task<IReadOnlyList<ApiKeyInfo>> ListKeysAsync();

    /// <summary>Revokes a key by id.</summary>
    [Alias("revoke-key")]
    Task RevokeKeyAsync(string keyId);
}

/// <summary>A key just made.</summary>
[GenerateSerializer, Alias("sandbox.created-api-key"), Immutable]
public sealed record CreatedApiKey([property: Id(0)] ApiKeyInfo Info, [property: Id(1)] string Key);

/// <summary>A key without its text.</summary>
[GenerateSerializer, Alias("sandbox.api-key-info"), Immutable]
public sealed record ApiKeyInfo([property: Id(0)] string Id, [property: Id(1)] string Name, [property: Id(2)] DateTimeOffset CreatedAt);
