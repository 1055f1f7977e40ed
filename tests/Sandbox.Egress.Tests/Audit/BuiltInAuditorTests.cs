using System.Text;
using CsCheck;
using Microsoft.Extensions.Time.Testing;
using Sandbox.Abstractions;
using Sandbox.Egress.Audit;
using Xunit;

namespace Sandbox.Egress.Tests.Audit;

public sealed class BuiltInAuditorTests
{
    // Put together at run time, so that no scanner of repositories takes them for real.
    private static readonly string Jwt = "eyJ" + "hbGciOiJIUzI1NiJ9." + "eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";

    public static TheoryData<string, string> Leaks => new()
    {
        { "AK" + "IAIOSFODNN7EXAMPLQ", "AWS access key" },
        { "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AWS secret key" },
        { "-----BEGIN RSA PRIV" + "ATE KEY-----\nMIIE", "private key" },
        { "-----BEGIN OPENSSH PRIV" + "ATE KEY-----", "private key" },
        { "token: gh" + "p_" + new string('a', 20) + "0123456789012345", "GitHub token" },
        { "xox" + "b-1234567890-abcdefghij", "Slack token" },
        { "s" + "k-proj-abcdefghijklmnopqrstuvwx", "API key" },
        { "AIz" + "aSyA1234567890abcdefghijklmnopqrstuv", "Google API key" },
        { Jwt, "JSON web token" },
        { "postgres://admin:hunter2@db.example.org/x", "credentials in an address" },
        { "DB_PASSWORD=\"x8Kq2mVz91LpQr7T\"", "looks like a credential" },
        { Convert.ToBase64String(Encoding.UTF8.GetBytes("some text first, then AK" + "IAIOSFODNN7EXAMPLQ and more text after it")), "in base64" },
        { "see http://169.254.169.254/latest/meta-data/", "metadata" },
        { "{\"url\":\"http://10.0.0.5/admin\"}", "not public" },
        { "{\"url\":\"http://2130706433/\"}", "not public" },
        { "{\"url\":\"http://0x7f.1/\"}", "not public" },
        { "{\"url\":\"http://0177.0.0.1/\"}", "not public" },
        { "{\"url\":\"http://[::1]:8080/\"}", "not public" },
        { "{\"url\":\"https://user@localhost/\"}", "not public" },
        { "{\"url\":\"file:///etc/passwd\"}", "scheme file" },
        { "{\"url\":\"http:\\/\\/10.0.0.5\\/\"}", "not public" },
        { "{\"url\":\"http\\u003a\\u002f\\u002f10.0.0.5\"}", "not public" },
        { "url=http%3A%2F%2F10.0.0.5%2F", "not public" },
    };

    [Theory]
    [MemberData(nameof(Leaks))]
    public async Task What_should_not_leave_is_denied_in_body_and_address_and_not_repeated(string text, string kind)
    {
        var verdict = await JudgeAsync(Requests.Post($"before {text} after"));
        Assert.Equal(AuditDecision.Deny, verdict.Decision);
        Assert.Contains(kind, verdict.Reason, StringComparison.Ordinal);
        Assert.DoesNotContain(text, verdict.Reason, StringComparison.Ordinal);

        Assert.Equal(AuditDecision.Deny, (await JudgeAsync(Requests.Post("") with { Target = "/x?q=" + Uri.EscapeDataString(text) })).Decision);
    }

    [Theory]
    [InlineData("hello world, an ordinary text with 12345 numbers and a password: hunter")]
    [InlineData("{\"url\":\"https://pypi.org/simple/\",\"version\":\"1.2.3.4\"}")]
    [InlineData("api_key = sbxs_openai_abcdefghijklmnopqrstuvwx")]
    [InlineData("order 4111 1111 1111 1112, tracking 1234567890123456")]
    [InlineData("DE89 3704 0044 0532 0130 02 is not an account")]
    [InlineData("000-12-3456 and 123-00-4567")]
    [InlineData("write to me@example.org")]
    public async Task Ordinary_text_has_nothing_against_it(string body) => Assert.Equal(new AuditVerdict(AuditDecision.Allow, "nothing against it", "built-in"), await JudgeAsync(Requests.Post(body)));

    [Theory]
    [InlineData("card 4111 1111 1111 1111 thanks", "4111 1111 1111 1111", "card number")]
    [InlineData("card=5555555555554444&x", "5555555555554444", "card number")]
    [InlineData("pay DE89 3704 0044 0532 0130 00 NOW", "DE89 3704 0044 0532 0130 00", "IBAN")]
    [InlineData("pay GB29NWBK60161331926819.", "GB29NWBK60161331926819", "IBAN")]
    [InlineData("ssn 123-45-6789", "123-45-6789", "social security")]
    public async Task Personal_data_is_marked_for_redaction(string body, string found, string kind)
    {
        var verdict = await JudgeAsync(Requests.Post(body));

        Assert.Equal(AuditDecision.Redact, verdict.Decision);
        Assert.Contains(kind, verdict.Reason, StringComparison.Ordinal);
        Assert.Equal(found, Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(body)[Assert.Single(verdict.Redactions!)]));
        Assert.Equal(AuditDecision.Deny, (await JudgeAsync(Requests.Post(body) with { BodyIsCut = true })).Decision);
    }

    [Fact]
    public async Task Personal_data_that_is_encoded_cannot_be_redacted_and_is_denied() =>
        Assert.Equal(new AuditVerdict(AuditDecision.Deny, "a card number in an encoded body", "built-in"), await JudgeAsync(Requests.Post("card=4111%201111%201111%201111&x=1")));

    [Fact]
    public async Task Places_are_in_bytes_and_do_not_overlap()
    {
        var body = "ä€𝄞 4111111111111111 und " + string.Join(' ', Enumerable.Range(0, 25).Select(i => $"user{i}@example.org"));
        var verdict = await JudgeAsync(Requests.Post(body));

        Assert.Equal(26, verdict.Redactions!.Count);
        Assert.Equal("4111111111111111", Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(body)[verdict.Redactions[0]]));
        Assert.Contains("e-mail", verdict.Reason, StringComparison.Ordinal);
    }

    public static TheoryData<string, byte[]> Beginnings => new()
    {
        { "zip", [.. "PK\x03\x04"u8] },
        { "gzip", [0x1f, 0x8b] },
        { "zstd", [0x28, 0xb5, 0x2f, 0xfd] },
        { "xz", [0xfd, .. "7zXZ\0"u8] },
        { "7z", [.. "7z"u8, 0xbc, 0xaf, 0x27, 0x1c] },
        { "tar", [.. new byte[257], .. "ustar"u8] },
        { "zip", [.. "--b\r\nContent-Type: a/b\r\n\r\nPK\x03\x04"u8] },
    };

    [Theory]
    [MemberData(nameof(Beginnings))]
    public async Task Uploads_of_archives_are_denied(string kind, byte[] beginning)
    {
        var verdict = await JudgeAsync(Requests.Post("") with { Body = (byte[])[.. beginning, .. new byte[40_000]] });

        Assert.Equal(new AuditVerdict(AuditDecision.Deny, $"the upload of an archive ({kind})", "built-in"), verdict);
        Assert.Equal(AuditDecision.Allow, (await JudgeAsync(Requests.Post("") with { Body = (byte[])[.. beginning, .. new byte[100]] })).Decision);
    }

    [Fact]
    public async Task A_header_may_hold_a_credential_only_where_credentials_belong()
    {
        Assert.Equal(AuditDecision.Allow, (await JudgeAsync(Requests.Post("") with { Headers = [new("Authorization", "Bearer " + Jwt)] })).Decision);
        Assert.Equal(AuditDecision.Deny, (await JudgeAsync(Requests.Post("") with { Headers = [new("X-Data", Jwt)] })).Decision);
    }

    [Fact]
    public void Small_requests_at_equal_intervals_are_a_beacon()
    {
        var time = new FakeTimeProvider();
        var patterns = new TrafficPatterns(time);
        for (var i = 0; i < TrafficPatterns.BeaconIntervals; i++)
        {
            Assert.Null(patterns.Observe("c2.example", 443, 64));
            time.Advance(TimeSpan.FromSeconds(30));
        }

        Assert.Contains("beacon", patterns.Observe("c2.example", 443, 64), StringComparison.Ordinal);
    }

    [Fact]
    public void Requests_at_other_intervals_are_none()
    {
        var time = new FakeTimeProvider();
        var patterns = new TrafficPatterns(time);
        var random = new Random(3);
        for (var i = 0; i < 50; i++)
        {
            Assert.Null(patterns.Observe("api.example", 443, 64));
            time.Advance(TimeSpan.FromSeconds(random.Next(1, 60)));
        }
    }

    [Fact]
    public void Many_hosts_or_ports_in_a_minute_are_a_scan()
    {
        var hosts = new TrafficPatterns(new FakeTimeProvider());
        Assert.All(Enumerable.Range(1, TrafficPatterns.ScanHosts - 1), i => Assert.Null(hosts.Observe($"h{i}.example", 443, 10_000)));
        Assert.Contains("many hosts", hosts.Observe("last.example", 443, 10_000), StringComparison.Ordinal);

        var ports = new TrafficPatterns(new FakeTimeProvider());
        Assert.All(Enumerable.Range(1, TrafficPatterns.ScanPorts - 1), i => Assert.Null(ports.Observe("h.example", i, 10_000)));
        Assert.Contains("many ports", ports.Observe("h.example", 99, 10_000), StringComparison.Ordinal);
    }

    [Fact]
    public void Any_bytes_are_judged_and_places_lie_within_them() =>
        Gen.OneOf(Gen.Byte.Array[0, 300], Gen.OneOf("4111111111111111", "a@b.org ", "http://", "[::", "0x", "sk-", "eyJ", "=", "DE89", " ", "-", "\0", "%", "@").List[0, 60].Select(p => Encoding.Latin1.GetBytes(string.Concat(p)))).Sample(body =>
        {
            var request = Requests.Post("") with { Body = body, Target = "/" + Encoding.Latin1.GetString(body) };
            var verdict = new BuiltInAuditor(new TrafficPatterns()).JudgeAsync(request, CancellationToken.None).Result;
            Assert.All(verdict.Redactions ?? [], r => Assert.InRange(r.End.Value, r.Start.Value, body.Length));
        });

    [Theory]
    [InlineData("a@")]
    [InlineData("4 ")]
    [InlineData("http://a:")]
    [InlineData("passwordpassword=")]
    [InlineData("DE89 AAAA ")]
    [InlineData("aws secret ")]
    [InlineData("eyJaaaaaaaaaa.")]
    [InlineData("AAAA")]
    public async Task A_hostile_body_ends(string unit)
    {
        // Without backtracking these take a moment; with it, years.
        var verdict = await JudgeAsync(Requests.Post(string.Concat(Enumerable.Repeat(unit, AuditRequest.BodyLimit / unit.Length))));
        Assert.Equal("built-in", verdict.By);
    }

    [Fact]
    public async Task Judges_are_asked_in_order()
    {
        var asked = new List<AuditVerdict>();
        await using var model = new ScriptedModel(call => ScriptedModel.Verdict(call, "ask", "unclear"));
        using var http = new HttpClient();
        var judge = new ModelAuditor(http, new ModelAuditorOptions { BaseUrl = model.Url, Model = "m" });
        var owner = new OwnerDecisions();
        var auditor = new CompositeAuditor(new EgressAuditing(), new BuiltInAuditor(new TrafficPatterns()), owner, judge, (_, verdict) => asked.Add(verdict));

        Assert.Equal("built-in", (await auditor.JudgeAsync(Requests.Post("ssn 123-45-6789"), CancellationToken.None)).By);
        Assert.Equal(AuditDecision.Ask, (await auditor.JudgeAsync(Requests.Post("x"), CancellationToken.None)).Decision);
        Assert.Single(asked);

        owner.Remember(new OwnerDecision("api.example.org", "POST", "/v1/*", Allow: true));
        Assert.Equal(new AuditVerdict(AuditDecision.Allow, "its owner allowed it", "owner"), await auditor.JudgeAsync(Requests.Post("x"), CancellationToken.None));
        Assert.Equal(AuditDecision.Redact, (await auditor.JudgeAsync(Requests.Post("ssn 123-45-6789"), CancellationToken.None)).Decision);
        Assert.Equal(AuditDecision.Ask, (await auditor.JudgeAsync(Requests.Post("x") with { Target = "/v1/../v2" }, CancellationToken.None)).Decision);
        Assert.False(new OwnerDecisions([.. owner.Export(), new OwnerDecision("api.example.org", null, null, Allow: false)]).Find("api.example.org", "POST", "/v1/x"));
    }

    [Theory]
    [InlineData(EgressAction.Allow, AuditDecision.Allow)]
    [InlineData(EgressAction.Deny, AuditDecision.Deny)]
    public async Task What_nobody_judges_is_as_the_policy_says(EgressAction otherwise, AuditDecision expected)
    {
        var auditor = new CompositeAuditor(new EgressAuditing { Otherwise = otherwise, BuiltIn = false }, new BuiltInAuditor(new TrafficPatterns()), new OwnerDecisions());

        Assert.Equal(new AuditVerdict(expected, "nobody judges it", "auditor"), await auditor.JudgeAsync(Requests.Post("ssn 123-45-6789"), CancellationToken.None));
    }

    private static Task<AuditVerdict> JudgeAsync(AuditRequest request) => new BuiltInAuditor(new TrafficPatterns()).JudgeAsync(request, CancellationToken.None);
}
