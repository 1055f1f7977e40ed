using System.Security.Cryptography;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Gateway.Preview;
using Xunit;

namespace Sandbox.Gateway.Tests.Preview;

/// <summary>Preview tokens: what they say, what makes them worthless, and where they let somebody in.</summary>
public sealed class PreviewTokenTests
{
    private static readonly byte[] Key = RandomNumberGenerator.GetBytes(32);
    private static readonly string Session = SandboxIds.NewSession();
    private readonly PreviewTokens _tokens = new(Key, TimeProvider.System);

    [Fact]
    public void A_token_says_what_was_granted_to_every_gateway_with_the_key()
    {
        var grant = Grant();
        Assert.Equal(grant, new PreviewTokens(Key, TimeProvider.System).Read(_tokens.Issue(grant)));
        Assert.Null(new PreviewTokens(RandomNumberGenerator.GetBytes(32), TimeProvider.System).Read(_tokens.Issue(grant)));
        Assert.Throws<ArgumentException>(() => new PreviewTokens(new byte[31], TimeProvider.System));
    }

    [Fact]
    public void An_expired_changed_or_made_up_token_is_none()
    {
        Assert.Null(_tokens.Read(_tokens.Issue(Grant() with { ExpiresAt = DateTimeOffset.FromUnixTimeSeconds(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 1) })));
        var token = _tokens.Issue(Grant());
        var other = _tokens.Issue(Grant() with { Port = 81 });
        Assert.Null(_tokens.Read(string.Join('.', token.Split('.')[0], other.Split('.')[1], token.Split('.')[2])));
        for (var i = 0; i < token.Length; i++)
        {
            var changed = token.ToCharArray();
            changed[i] = changed[i] == 'A' ? 'B' : 'A';

            // The last character of Base64 has bits that mean nothing: the same token in other words.
            var read = _tokens.Read(new string(changed));
            Assert.True(read is null || (i == token.Length - 1 && read == Grant() with { ExpiresAt = read.ExpiresAt }), $"A change at {i} was not seen.");
        }

        foreach (var nonsense in (string[])["", ".", "p1..", "p1.!.!", new string('x', 10_000)])
        {
            Assert.Null(_tokens.Read(nonsense));
        }
    }

    [Fact]
    public void It_lets_in_to_its_own_port_of_its_own_session_and_nowhere_else()
    {
        var token = _tokens.Issue(Grant());
        Assert.True(Admits($"/v1/sessions/{Session}/ports/80/x", token));
        Assert.True(Admits($"/v1/sessions/{Session}/ports/80", token));
        Assert.False(Admits($"/v1/sessions/{Session}/ports/81/x", token));
        Assert.False(Admits($"/v1/sessions/{Session}/ports/080/x", token));
        Assert.False(Admits($"/v1/sessions/{SandboxIds.NewSession()}/ports/80/x", token));
        Assert.False(Admits($"/v1/sessions/{Session}/files", token));
        Assert.False(Admits($"/v1/sessions/{Session}/ports/80x", token));
    }

    private bool Admits(string path, string token)
    {
        var context = new DefaultHttpContext();
        context.Request.Path = path;
        context.Request.Headers[PreviewAccess.TokenHeader] = token;
        return PreviewAccess.TryAdmit(context, _tokens) && PreviewAccess.GrantOf(context) is not null;
    }

    private static PreviewGrant Grant() => new(Session, 80, "acme", 3, DateTimeOffset.FromUnixTimeSeconds(DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 600));
}
