using System.Security.Cryptography;
using System.Text;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Tenants;

/// <summary>A tenant's API keys.</summary>
internal sealed class TenantGrain(
    [PersistentState("tenant", StorageNames.Provider)] IPersistentState<TenantState> state,
    IServiceProvider services) : Grain, ITenantGrain
{
    private const int MaxKeys = 100;
    private const string SecretAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    private readonly TimeProvider _clock = SandboxClock.Of(services);

    public async Task<CreatedApiKey> CreateKeyAsync(string name)
    {
        var tenant = this.GetPrimaryKeyString();
        if (!TenantNames.IsTenant(tenant))
        {
            throw SandboxException.Invalid("tenant", $"'{tenant}' is not a tenant id: lower-case letters, digits and hyphens, beginning with a letter, at most 40.");
        }

        if (string.IsNullOrWhiteSpace(name) || name.Length > 100 || name.Any(char.IsControl))
        {
            throw SandboxException.Invalid("name", "A key needs a name of 1 to 100 characters without control characters.");
        }

        if (state.State.Keys.Count >= MaxKeys)
        {
            throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"Tenant {tenant} has {MaxKeys} keys, the most there may be. Revoke one first.");
        }

        var text = $"sbx_{tenant}_{RandomNumberGenerator.GetString(SecretAlphabet, 40)}";
        var info = new ApiKeyInfo("key_" + RandomNumberGenerator.GetHexString(12, lowercase: true), name, _clock.GetUtcNow());
        await WriteAsync([.. state.State.Keys, new StoredKey { Info = info, Hash = HashOf(text) }]);
        return new CreatedApiKey(info, text);
    }

    public Task<bool> VerifyKeyAsync(string key)
    {
        if (key is null || key.Length > 200)
        {
            return Task.FromResult(false);
        }

        var hash = Encoding.ASCII.GetBytes(HashOf(key));
        var valid = false;
        foreach (var stored in state.State.Keys)
        {
            // Every key is compared whole, so that the time taken says nothing.
            valid |= CryptographicOperations.FixedTimeEquals(hash, Encoding.ASCII.GetBytes(stored.Hash));
        }

        return Task.FromResult(valid);
    }

    public Task<IReadOnlyList<ApiKeyInfo>> ListKeysAsync() => Task.FromResult<IReadOnlyList<ApiKeyInfo>>([.. state.State.Keys.Select(k => k.Info)]);

    public Task RevokeKeyAsync(string keyId)
    {
        var left = state.State.Keys.Where(k => k.Info.Id != keyId).ToList();
        return left.Count < state.State.Keys.Count ? WriteAsync(left) : throw SandboxException.NotFound($"There is no key '{keyId}'.");
    }

    private async Task WriteAsync(List<StoredKey> keys)
    {
        var before = state.State;
        state.State = new TenantState { Keys = keys };
        try
        {
            await state.WriteStateAsync();
        }
        catch
        {
            // A key that was not stored must not work until the next restart only.
            state.State = before;
            throw;
        }
    }

    private static string HashOf(string key) => Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(key)));
}
