using System.IO.Compression;
using System.Net;
using System.Text;
using Sandbox.Abstractions;
using Sandbox.Egress.Audit;
using Sandbox.Egress.Proxy;
using Xunit;

namespace Sandbox.Egress.Tests.Proxy;

/// <summary>Requests that an auditor judges.</summary>
public sealed class AuditTests
{
    [Fact]
    public async Task What_is_allowed_goes_on_whole()
    {
        await using var world = await World.StartAsync();
        var body = new string('x', 900_000);

        var response = await world.PostAsync(new StringContent(body));

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal(body, world.Received);
        var seen = world.Rig.Auditor.Seen.Single();
        Assert.Equal((AuditRequest.BodyLimit, true, (long?)900_000), (seen.Body.Length, seen.BodyIsCut, seen.BodyLength));
        Assert.Equal(("https", ProxyRig.Name, 443, "POST", "/upload?x=1"), (seen.Scheme, seen.Host, seen.Port, seen.Method, seen.Target));
        var line = await world.Rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request);
        Assert.Equal((EgressOutcome.Allowed, "built-in", 900_000), (line.Outcome, line.By, line.BytesUp));
    }

    [Theory]
    [InlineData(AuditDecision.Deny, "egress_denied", EgressOutcome.Denied)]
    [InlineData(AuditDecision.Ask, "egress_asked", EgressOutcome.Asked)]
    public async Task Nothing_is_sent_of_what_is_not_allowed(AuditDecision decision, string error, EgressOutcome outcome)
    {
        await using var world = await World.StartAsync();
        world.Rig.Auditor.Judge = _ => new AuditVerdict(decision, "It looks like a key.", "model");

        var response = await world.PostAsync(new StringContent("secret"));

        Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
        Assert.Contains(error, await response.Content.ReadAsStringAsync());
        Assert.Empty(world.Rig.Dialled);
        var line = await world.Rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request);
        Assert.Equal((outcome, "model", "It looks like a key."), (line.Outcome, line.By, line.Reason));
    }

    [Fact]
    public async Task Parts_are_taken_out_of_a_body_that_is_whole()
    {
        await using var world = await World.StartAsync();
        world.Rig.Auditor.Judge = r => new AuditVerdict(AuditDecision.Redact, "A key.", "built-in", [2..5]);

        await world.PostAsync(new StringContent("0123456789"));

        Assert.Equal("01***56789", world.Received);
        Assert.Equal(EgressOutcome.Redacted, (await world.Rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request)).Outcome);
    }

    [Fact]
    public async Task A_body_that_is_long_or_compressed_is_denied_instead()
    {
        await using var world = await World.StartAsync();
        world.Rig.Auditor.Judge = r => new AuditVerdict(AuditDecision.Redact, "A key.", "built-in", [2..5]);

        Assert.Equal(HttpStatusCode.Forbidden, (await world.PostAsync(new StringContent(new string('x', 300_000)))).StatusCode);
        Assert.Equal(HttpStatusCode.Forbidden, (await world.PostAsync(Compressed("gzip", "0123456789"))).StatusCode);
        Assert.Empty(world.Rig.Dialled);
    }

    [Theory]
    [InlineData("gzip")]
    [InlineData("br")]
    [InlineData("deflate")]
    public async Task A_compressed_body_is_shown_as_what_it_holds(string encoding)
    {
        await using var world = await World.StartAsync();

        await world.PostAsync(Compressed(encoding, "what it holds"));
        await world.PostAsync(Compressed(encoding, Convert.ToHexString(System.Security.Cryptography.RandomNumberGenerator.GetBytes(1_000_000))));
        await world.PostAsync(Compressed(encoding, new string('0', 50_000_000)));

        Assert.Equal("what it holds", Encoding.ASCII.GetString(world.Rig.Auditor.Seen.First().Body.Span));
        var bomb = world.Rig.Auditor.Seen.Last();
        Assert.Equal((AuditRequest.BodyLimit, true), (bomb.Body.Length, bomb.BodyIsCut));
    }

    [Theory]
    [InlineData("zstd")]
    [InlineData("gzip, gzip")]
    [InlineData("gzip")]
    [InlineData("br")]
    [InlineData("deflate")]
    public async Task A_body_that_is_not_what_it_says_is_denied(string encoding)
    {
        await using var world = await World.StartAsync();

        var response = await world.PostAsync(new ByteArrayContent(Encoding.ASCII.GetBytes("as plain as can be, whatever the header says of it")) { Headers = { { "Content-Encoding", encoding } } });

        Assert.Equal(HttpStatusCode.Forbidden, response.StatusCode);
        Assert.Empty(world.Rig.Auditor.Seen);
        Assert.Empty(world.Rig.Dialled);
    }

    [Theory]
    [InlineData(EgressAction.Deny, EgressMode.Enforce, HttpStatusCode.Forbidden, EgressOutcome.Denied)]
    [InlineData(EgressAction.Allow, EgressMode.Enforce, HttpStatusCode.OK, EgressOutcome.Allowed)]
    [InlineData(EgressAction.Deny, EgressMode.DryRun, HttpStatusCode.OK, EgressOutcome.WouldDeny)]
    public async Task The_policy_says_what_becomes_of_what_nobody_could_judge(EgressAction otherwise, EgressMode mode, HttpStatusCode status, EgressOutcome outcome)
    {
        await using var world = await World.StartAsync(new EgressPolicy { Mode = mode, Auditing = new EgressAuditing { Otherwise = otherwise } });
        world.Rig.Auditor.Judge = _ => throw new TimeoutException("model");

        Assert.Equal(status, (await world.PostAsync(new StringContent("x"))).StatusCode);
        Assert.Equal((outcome, "auditor"), await world.Rig.Log.WaitAsync(r => r.Kind == EgressRecordKind.Request) is var line ? (line.Outcome, line.By) : default);
    }

    [Fact]
    public async Task A_body_that_takes_its_time_is_judged_by_what_is_there_and_then_streams()
    {
        await using var world = await World.StartAsync(options: new ProxyOptions { AuditBodyWait = TimeSpan.FromMilliseconds(200) });
        var judged = new TaskCompletionSource();
        world.Rig.Auditor.Judge = _ =>
        {
            judged.TrySetResult();
            return new AuditVerdict(AuditDecision.Allow, "", "built-in");
        };

        var response = await world.PostAsync(new SlowContent("first ", judged.Task, "second"));

        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        Assert.Equal("first second", world.Received);
        var seen = world.Rig.Auditor.Seen.Single();
        Assert.Equal(("first ", true), (Encoding.ASCII.GetString(seen.Body.Span), seen.BodyIsCut));
    }

    private static ByteArrayContent Compressed(string encoding, string text)
    {
        var all = new MemoryStream();
        using (Stream stream = encoding switch
        {
            "gzip" => new GZipStream(all, CompressionLevel.Fastest),
            "br" => new BrotliStream(all, CompressionLevel.Fastest),
            _ => new ZLibStream(all, CompressionLevel.Fastest),
        })
        {
            stream.Write(Encoding.ASCII.GetBytes(text));
        }

        return new ByteArrayContent(all.ToArray()) { Headers = { ContentEncoding = { encoding } } };
    }

    private sealed class SlowContent(string first, Task then, string second) : HttpContent
    {
        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            await stream.WriteAsync(Encoding.ASCII.GetBytes(first));
            await stream.FlushAsync();
            await then;
            await stream.WriteAsync(Encoding.ASCII.GetBytes(second));
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }

    private sealed class World : IAsyncDisposable
    {
        private TestWeb _web = null!;
        private HttpClient _client = null!;

        public ProxyRig Rig { get; private set; } = null!;

        public string? Received { get; private set; }

        public static async Task<World> StartAsync(EgressPolicy? policy = null, ProxyOptions? options = null)
        {
            var world = new World();
            world._web = await TestServers.WebAsync(
                async http => world.Received = await new StreamReader(http.Request.Body).ReadToEndAsync(),
                TestServers.Certificate(ProxyRig.Name));
            world.Rig = await InterceptTests.StartAsync(
                world._web,
                r =>
                {
                    r.Decisions.Source = policy ?? new EgressPolicy();
                    r.Decisions.Requests = (_, _, _) => EgressAction.Audit;
                },
                options: options);
            world._client = world.Rig.Client();
            return world;
        }

        public Task<HttpResponseMessage> PostAsync(HttpContent content) => _client.PostAsync($"https://{ProxyRig.Name}/upload?x=1", content);

        public async ValueTask DisposeAsync()
        {
            _client.Dispose();
            await Rig.DisposeAsync();
            await _web.DisposeAsync();
        }
    }
}
