using System.Text;
using CsCheck;
using Sandbox.Abstractions;
using Sandbox.Egress.Secrets;
using Xunit;

namespace Sandbox.Egress.Tests.Secrets;

public sealed class SecretSwapTests
{
    private static readonly SecretBinding Key = new("openai", Placeholders.New("openai"), "sk-live/\"quoted\"+&value", ["api.openai.com", "*.openai.azure.com"], ["authorization", "x-api-key"]);
    private static readonly SecretBinding Token = new("git-token", Placeholders.New("git-token"), "ghp_0123456789abcdef", ["github.com"], ["authorization"]);
    private static readonly SecretSwap Swap = new([Key, Token]);

    [Fact]
    public void A_placeholder_becomes_its_secret_in_bound_headers_of_bound_hosts_only()
    {
        var used = new List<string>();
        Assert.Equal($"Bearer {Key.Value}", Swap.Header("api.openai.com", "Authorization", $"Bearer {Key.Placeholder}", used));
        Assert.Equal(Key.Value, Swap.Header("eu.openai.azure.com", "X-Api-Key", Key.Placeholder, used));
        Assert.Equal(["openai"], used);

        used.Clear();
        Assert.Equal(Key.Placeholder, Swap.Header("api.openai.com", "x-other", Key.Placeholder, used));
        Assert.Equal(Key.Placeholder, Swap.Header("api.openai.com.evil.example", "authorization", Key.Placeholder, used));
        Assert.Equal(Key.Placeholder, Swap.Header("openai.azure.com", "authorization", Key.Placeholder, used));
        Assert.Equal($"{Key.Placeholder}", Swap.Header("github.com", "authorization", Key.Placeholder, used));
        Assert.Empty(used);
    }

    [Fact]
    public void Basic_credentials_are_looked_into()
    {
        var used = new List<string>();
        var header = Swap.Header("github.com", "authorization", "Basic " + Encode($"x-access-token:{Token.Placeholder}"), used);

        Assert.Equal("Basic " + Encode($"x-access-token:{Token.Value}"), header);
        Assert.Equal(["git-token"], used);
        Assert.Equal("Basic !!", Swap.Header("github.com", "authorization", "Basic !!", used));
    }

    [Theory]
    [InlineData("Bearer {0}")]
    [InlineData("{0}")]
    [InlineData("/collect?key={0}")]
    public void A_placeholder_that_is_sent_elsewhere_is_noticed(string form)
    {
        Assert.True(Swap.IsMisused("evil.example", "anything", string.Format(null, form, Token.Placeholder)));
        Assert.True(Swap.IsMisused("evil.example", "anything", string.Format(null, form, Token.Placeholder.ToUpperInvariant())));
        Assert.True(Swap.IsMisused("api.openai.com", "authorization", string.Format(null, form, Token.Placeholder)));
        Assert.False(Swap.IsMisused("github.com", "anything", string.Format(null, form, Token.Placeholder)));
    }

    [Fact]
    public void A_placeholder_in_disguise_is_noticed()
    {
        Assert.True(Swap.IsMisused("evil.example", "authorization", "Basic " + Encode("u:" + Token.Placeholder)));
        Assert.True(Swap.IsMisused("evil.example", ":path", "/?" + string.Concat(Token.Placeholder.Select(c => $"%{(int)c:x2}"))));
        Assert.False(Swap.IsMisused("evil.example", "authorization", "Bearer sbxs_made_up"));
    }

    [Fact]
    public void Hosts_with_secrets_are_known()
    {
        Assert.True(Swap.Concerns("api.openai.com"));
        Assert.False(Swap.Concerns("example.org"));
        Assert.False(SecretSwap.None.Concerns("api.openai.com"));
        Assert.Null(SecretSwap.None.ForBody());
    }

    [Fact]
    public void Echoes_are_taken_out_in_every_form()
    {
        foreach (var form in new[]
        {
            Key.Value, Uri.EscapeDataString(Key.Value), Uri.EscapeDataString(Key.Value).ToLowerInvariant().Replace("%2b", "%2b", StringComparison.Ordinal),
            Key.Value.Replace("\"", "\\\"", StringComparison.Ordinal), Key.Value.Replace("\"", "\\u0022", StringComparison.Ordinal).Replace("+", "\\u002B", StringComparison.Ordinal).Replace("&", "\\u0026", StringComparison.Ordinal),
            Encode(Key.Value),
        })
        {
            var redacted = Swap.Redact($"<{form}>");
            Assert.True(redacted.Contains(Key.Placeholder, StringComparison.Ordinal), form);
            Assert.Equal(redacted, Whole($"<{form}>"));
        }

        for (var before = 0; before < 3; before++)
        {
            Assert.DoesNotContain(Encode(Token.Value)[4..12], Swap.Redact("Basic " + Encode(new string('u', before) + Token.Value)), StringComparison.Ordinal);
            Assert.Contains(Token.Placeholder, Whole(Encode(new string('u', before) + Token.Value + "zz")), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_stream_comes_out_the_same_however_it_is_cut() =>
        (from parts in Gen.OneOf(Key.Value, Key.Value[..9], Token.Value, Token.Value[..19], Token.Value[5..], "ghp_", "s", "sk", "text", "\n", Encode(Token.Value), Encode("a" + Token.Value), Uri.EscapeDataString(Key.Value), "%", "\\").List[0, 12]
         from cuts in Gen.Int[1, 9].List[1, 60]
         select (string.Concat(parts), cuts)).Sample(x =>
         {
             var bytes = Encoding.UTF8.GetBytes(x.Item1);
             var redactor = Swap.ForBody()!;
             using var output = new MemoryStream();
             var at = 0;
             for (var i = 0; at < bytes.Length; i++)
             {
                 var take = Math.Min(x.cuts[i % x.cuts.Count], bytes.Length - at);
                 output.Write(redactor.Push(bytes.AsSpan(at, take)).Span);
                 at += take;
             }

             output.Write(redactor.Finish().Span);
             var result = Encoding.UTF8.GetString(output.ToArray());
             Assert.Equal(Whole(x.Item1), result);
             Assert.DoesNotContain(Key.Value, result, StringComparison.Ordinal);
             Assert.DoesNotContain(Token.Value, result, StringComparison.Ordinal);
         });

    [Fact]
    public void Only_what_could_begin_a_secret_is_held_back()
    {
        var redactor = Swap.ForBody()!;

        Assert.Equal("hello ", Encoding.UTF8.GetString(redactor.Push(Encoding.UTF8.GetBytes("hello ghp_01")).Span));
        Assert.Equal("ghp_01x", Encoding.UTF8.GetString(redactor.Push("x"u8).Span));
        Assert.True(redactor.Finish().IsEmpty);
    }

    [Fact]
    public void A_secret_does_not_show_itself()
    {
        Assert.DoesNotContain(Key.Value, Key.ToString(), StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new SecretSwap([Key with { Hosts = ["*"] }]));
        Assert.Throws<ArgumentException>(() => new SecretSwap([Key with { Placeholder = "x" }]));
    }

    [Fact]
    public void Placeholders_are_tokens_and_differ()
    {
        var one = Placeholders.New("my-key-2");
        Assert.Matches("^sbxs_my_key_2_[a-z2-7]{24}$", one);
        Assert.NotEqual(one, Placeholders.New("my-key-2"));
        Assert.True(Placeholders.IsOne(one));
        Assert.True(Placeholders.IsOne(Placeholders.New("a" + new string('b', 62))));
    }

    public static TheoryData<string, string, string[], string[], string> Mistakes => new()
    {
        { "Key", "value", ["a.org"], [], "name" },
        { "k", "", ["a.org"], [], "value" },
        { "k", "a\nb", ["a.org"], [], "value" },
        { "k", new string('x', 16385), ["a.org"], [], "value" },
        { "k", "value", [], [], "hosts" },
        { "k", "value", ["*"], [], "hosts[0]" },
        { "k", "value", ["a.org", "*.com"], [], "hosts[1]" },
        { "k", "value", ["https://a.org"], [], "hosts[0]" },
        { "k", "value", ["a.org"], ["bad header"], "headers[0]" },
        { "k", "value", ["a.org"], ["Host"], "headers[0]" },
    };

    [Theory]
    [MemberData(nameof(Mistakes))]
    public void A_mistake_in_a_secret_is_named_and_its_value_is_not(string name, string value, string[] hosts, string[] headers, string field)
    {
        var error = Assert.Throws<SandboxException>(() => SecretValidation.Validate(name, value, hosts, headers));

        Assert.Equal(field, error.Field);
        Assert.True(value.Length == 0 || !error.Message.Contains(value, StringComparison.Ordinal) || value == "value");
    }

    [Fact]
    public void A_good_secret_passes() => SecretValidation.Validate("openai-key", "sk-…", ["api.openai.com", "*.openai.azure.com"], ["authorization"]);

    private static string Whole(string text)
    {
        var redactor = Swap.ForBody()!;
        return Encoding.UTF8.GetString([.. redactor.Push(Encoding.UTF8.GetBytes(text)).ToArray(), .. redactor.Finish().ToArray()]);
    }

    private static string Encode(string text) => Convert.ToBase64String(Encoding.UTF8.GetBytes(text));
}
