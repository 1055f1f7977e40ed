using System.Text;
using Sandbox.Snapshots.Keys;
using Xunit;

namespace Sandbox.Snapshots.Tests;

/// <summary>What is sealed for one tenant, purpose and name opens for these alone.</summary>
public sealed class TenantSealTests
{
    private static readonly byte[] Value = Encoding.UTF8.GetBytes("the value");
    private readonly TenantSeal _seal = new(new MasterKeyProvider(new byte[32]));

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task It_opens_to_what_was_sealed_and_shows_nothing_of_it()
    {
        var made = await _seal.SealAsync("acme", "secret", "token", Value, Token);

        Assert.Equal(Value, await _seal.OpenAsync("acme", "secret", "token", made, Token));
        Assert.Equal(-1, made.AsSpan().IndexOf(Value));
        Assert.NotEqual(made, await _seal.SealAsync("acme", "secret", "token", Value, Token));
    }

    [Theory]
    [InlineData("other", "secret", "token")]
    [InlineData("acme", "authority", "token")]
    [InlineData("acme", "secret", "another")]
    public async Task It_opens_for_nothing_else(string tenant, string purpose, string name)
    {
        var made = await _seal.SealAsync("acme", "secret", "token", Value, Token);

        var e = await Assert.ThrowsAsync<SnapshotException>(() => _seal.OpenAsync(tenant, purpose, name, made, Token));
        Assert.Equal(SnapshotErrorKind.Corrupt, e.Kind);
        Assert.Contains(name, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Every_changed_or_missing_byte_is_noticed()
    {
        var made = await _seal.SealAsync("acme", "secret", "token", Value, Token);
        for (var i = 0; i < made.Length; i++)
        {
            var changed = made.ToArray();
            changed[i] ^= 1;
            await Assert.ThrowsAsync<SnapshotException>(() => _seal.OpenAsync("acme", "secret", "token", changed, Token));
            await Assert.ThrowsAsync<SnapshotException>(() => _seal.OpenAsync("acme", "secret", "token", made.AsMemory(0, i), Token));
        }
    }

    [Fact]
    public async Task Another_master_key_opens_nothing()
    {
        var made = await _seal.SealAsync("acme", "secret", "token", Value, Token);
        var other = new TenantSeal(new MasterKeyProvider([.. Enumerable.Repeat((byte)1, 32)]));

        await Assert.ThrowsAsync<SnapshotException>(() => other.OpenAsync("acme", "secret", "token", made, Token));
    }
}
