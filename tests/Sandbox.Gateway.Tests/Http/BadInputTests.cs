using System.Net;
using System.Text;
using Sandbox.Abstractions;
using Sandbox.Gateway.Tests.Harness;
using Xunit;

namespace Sandbox.Gateway.Tests.Http;

/// <summary>Bad input gets a precise answer that names the field, and reaches no actor.</summary>
public sealed class BadInputTests : IAsyncLifetime
{
    private const string Some = "{session}";
    private const string From = """
        "from": {"sessionId": "ses_00000000000000000000000000", "checkpointId": "chk_00000000000000000000000000"}
        """;

    private Facade _facade = null!;

    public static TheoryData<string, string, string, string> Bodies => new()
    {
        { "/v1/sessions", """{"memoryMib": 5}""", "memoryMib", "unknown member, near miss" },
        { "/v1/sessions", """{"vcpus": "two"}""", "vcpus", "text for a number" },
        { "/v1/sessions", """{"vcpus": 99999999999}""", "vcpus", "beyond an int" },
        { "/v1/sessions", """{"vcpus": 1.5}""", "vcpus", "fraction for a whole number" },
        { "/v1/sessions", """{"memoryMiB": "512"}""", "memoryMiB", "number as text" },
        { "/v1/sessions", """{"idleTimeoutSeconds": 1e300}""", "idleTimeoutSeconds", "beyond all time" },
        { "/v1/sessions", """{"idleTimeoutSeconds": "soon"}""", "idleTimeoutSeconds", "text for seconds" },
        { "/v1/sessions", """{"untrusted": 1}""", "untrusted", "number for a switch" },
        { "/v1/sessions", """{"env": {"A": 5}}""", "env.A", "number in env" },
        { "/v1/sessions", """{"env": {"A": null}}""", "env.A", "null in env" },
        { "/v1/sessions", """{"metadata": []}""", "metadata", "list for a map" },
        { "/v1/sessions", "[]", "", "list for the body" },
        { "/v1/sessions", "null", "", "null body" },
        { "/v1/sessions", "{", "", "cut off" },
        { "/v1/sessions", "hello", "", "no JSON" },
        { $"/v1/sessions/{Some}/executions", """{"argv": "ls"}""", "argv", "text for a list" },
        { $"/v1/sessions/{Some}/executions", """{"argv": ["ls", null]}""", "argv", "null argument" },
        { $"/v1/sessions/{Some}/executions", """{"shell": "ls", "pty": {"columns": "wide"}}""", "pty.columns", "inner member" },
        { $"/v1/sessions/{Some}/executions", """{"shell": "ls", "pty": {"width": 5}}""", "width", "unknown inner member" },
        { $"/v1/sessions/{Some}/executions", """{"shell": "ls", "outputLimitBytes": "all"}""", "outputLimitBytes", "text for bytes" },
        { $"/v1/sessions/{Some}/contexts", """{"lang": "python"}""", "lang", "unknown member" },
        { "/v1/keys", """{"name": ""}""", "name", "empty name" },
        { "/v1/sessions", """{"idleAction": "sleep"}""", "idleAction", "unknown word" },
        { "/v1/sessions", """{"idleAction": 0}""", "idleAction", "number for a word" },
        { "/v1/sessions", """{"checkpoints": true}""", "checkpoints", "switch for an object" },
        { "/v1/sessions", """{"checkpoints": {"every": 5}}""", "every", "unknown inner member" },
        { "/v1/sessions", """{"checkpoints": {"everySeconds": "5m"}}""", "checkpoints.everySeconds", "text for seconds" },
        { "/v1/sessions", """{"checkpoints": {"onIdle": null}}""", "checkpoints.onIdle", "null for a switch" },
        { "/v1/sessions", """{"from": {}}""", "from.sessionId", "from nothing" },
        { "/v1/sessions", """{"from": {"sessionId": "../x", "checkpointId": "chk_00000000000000000000000000"}}""", "from.sessionId", "no session id" },
        { "/v1/sessions", """{"from": {"sessionId": "ses_00000000000000000000000000"}}""", "from.checkpointId", "from no checkpoint" },
        { "/v1/sessions", """{"from": {"sessionId": "ses_00000000000000000000000000", "checkpointId": "1"}}""", "from.checkpointId", "no checkpoint id" },
        { "/v1/sessions", $$"""{"template": "python", {{From}}}""", "template", "even the default, if it is named" },
        { "/v1/sessions", $$"""{"backend": "qemu", {{From}}}""", "backend", "the checkpoint's" },
        { "/v1/sessions", $$"""{"vcpus": 2, {{From}}}""", "vcpus", "the checkpoint's" },
        { "/v1/sessions", $$"""{"memoryMiB": 512, {{From}}}""", "memoryMiB", "the checkpoint's" },
        { "/v1/sessions", $$"""{"diskMiB": 512, {{From}}}""", "diskMiB", "the checkpoint's" },
        { "/v1/sessions", $$"""{"env": {}, {{From}}}""", "env", "the checkpoint's" },
        { $"/v1/sessions/{Some}/checkpoints", """{"title": "x"}""", "title", "unknown member" },
        { $"/v1/sessions/{Some}/checkpoints", """{"name": ""}""", "name", "empty name" },
        { $"/v1/sessions/{Some}/checkpoints", """{"name": "a\u0007b"}""", "name", "control character" },
        { $"/v1/sessions/{Some}/checkpoints", $$"""{"name": "{{new string('x', 101)}}"}""", "name", "too long" },
        { $"/v1/sessions/{Some}/checkpoints", """{"name": 5}""", "name", "number for a name" },
        { $"/v1/sessions/{Some}/fork", """{"count": 0}""", "count", "none" },
        { $"/v1/sessions/{Some}/fork", """{"count": 101}""", "count", "too many" },
        { $"/v1/sessions/{Some}/fork", """{"count": "two"}""", "count", "text for a number" },
        { $"/v1/sessions/{Some}/fork", """{"copies": 2}""", "copies", "unknown member" },
    };

    public async ValueTask InitializeAsync() => _facade = await Facade.StartAsync();

    public ValueTask DisposeAsync() => _facade.DisposeAsync();

    [Theory]
    [MemberData(nameof(Bodies))]
    public async Task A_wrong_body_names_its_field_and_changes_nothing(string path, string body, string field, string why)
    {
        using var answer = await _facade.PostAsync(path.Replace(Some, _facade.NewSession(), StringComparison.Ordinal), body);

        var problem = await Facade.ProblemAsync(answer, HttpStatusCode.BadRequest, "invalidArgument", field);
        Assert.True(_facade.World.Calls.IsEmpty, why + problem);
    }

    [Theory]
    [InlineData("GET", "/v1/sessions?limit=0", "limit")]
    [InlineData("GET", "/v1/sessions?limit=many", "limit")]
    [InlineData("GET", "/v1/sessions?state=asleep", "state")]
    [InlineData("GET", "/v1/sessions?state=2", "state")]
    [InlineData("POST", "/v1/sessions?wait=61", "wait")]
    [InlineData("GET", "/v1/sessions/{session}/files", "path")]
    [InlineData("GET", "/v1/sessions/{session}/files?path=/&depth=33", "depth")]
    [InlineData("GET", "/v1/sessions/{session}/files/content?path=", "path")]
    [InlineData("PUT", "/v1/sessions/{session}/files/content?path=x&mode=999", "mode")]
    [InlineData("PUT", "/v1/sessions/{session}/files/content?path=x&append=maybe", "append")]
    [InlineData("DELETE", "/v1/sessions/{session}/files?path=x&recursive=perhaps", "recursive")]
    [InlineData("POST", "/v1/sessions/{session}/files/move?from=a", "to")]
    [InlineData("POST", "/v1/sessions/{session}/pause?wait=61", "wait")]
    [InlineData("POST", "/v1/sessions/{session}/resume?wait=-1", "wait")]
    [InlineData("POST", "/v1/sessions/{session}/fork?wait=soon", "wait")]
    [InlineData("GET", "/v1/sessions/{session}?wake=maybe", "wake")]
    [InlineData("GET", "/v1/sessions/{session}/metrics?wake=", "wake")]
    [InlineData("GET", "/v1/hosts?wake=0", "wake")]
    public async Task A_wrong_query_names_its_parameter(string method, string path, string field)
    {
        using var request = new HttpRequestMessage(new HttpMethod(method), path.Replace(Some, _facade.NewSession(), StringComparison.Ordinal));

        using var answer = await _facade.Http.SendAsync(request);

        await Facade.ProblemAsync(answer, HttpStatusCode.BadRequest, "invalidArgument", field);
    }

    [Theory]
    [InlineData("/v1/sessions/nonsense")]
    [InlineData("/v1/sessions/ses_short")]
    [InlineData("/v1/sessions/SES_00000000000000000000000000")]
    [InlineData("/v1/sessions/..%2f..%2fetc%2fpasswd")]
    [InlineData("/v1/sessions/{session}/executions/nonsense")]
    [InlineData("/v1/sessions/{session}/executions/..%2Fhosts/output")]
    [InlineData("/v1/sessions/{session}/executions/exe_00000000000000000000000000")]
    [InlineData("/v1/sessions/{session}/checkpoints/nonsense")]
    [InlineData("/v1/sessions/{session}/checkpoints/chk_00000000000000000000000000")]
    [InlineData("/v1/sessions/nonsense/checkpoints")]
    [InlineData("/v1/nothing")]
    public async Task Wrong_ids_and_addresses_are_not_found(string path)
    {
        using var answer = await _facade.Http.GetAsync(path.Replace(Some, _facade.NewSession(), StringComparison.Ordinal));

        await Facade.ProblemAsync(answer, HttpStatusCode.NotFound, "notFound");
    }

    [Theory]
    [InlineData("PUT", "/v1/sessions")]
    [InlineData("DELETE", "/v1/hosts")]
    public async Task A_wrong_method_is_said_in_words(string method, string path)
    {
        using var answer = await _facade.Http.SendAsync(new HttpRequestMessage(new HttpMethod(method), path));

        await Facade.ProblemAsync(answer, HttpStatusCode.MethodNotAllowed, "methodNotAllowed");
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_body_over_the_limit_is_too_large_whether_it_says_so_or_not(bool saysSo)
    {
        var big = Encoding.UTF8.GetBytes("{\"template\": \"" + new string('x', 2 << 20) + "\"}");
        HttpContent content = saysSo ? new ByteArrayContent(big) : new StreamContent(new Unseekable(big));
        content.Headers.ContentType = new("application/json");

        using var answer = await _facade.Http.PostAsync("/v1/sessions", content);

        await Facade.ProblemAsync(answer, HttpStatusCode.RequestEntityTooLarge, "tooLarge");
        Assert.Empty(_facade.World.Calls);
    }

    [Fact]
    public async Task A_form_is_not_taken_for_JSON()
    {
        using var answer = await _facade.Http.PostAsync("/v1/sessions", new FormUrlEncodedContent([new("template", "python")]));

        await Facade.ProblemAsync(answer, HttpStatusCode.BadRequest, "invalidArgument", "Content-Type");
    }

    [Theory]
    [InlineData(SandboxErrorCode.ResourceExhausted, HttpStatusCode.TooManyRequests)]
    [InlineData(SandboxErrorCode.Unsupported, HttpStatusCode.UnprocessableEntity)]
    [InlineData(SandboxErrorCode.DiskFull, HttpStatusCode.InsufficientStorage)]
    [InlineData(SandboxErrorCode.Unavailable, HttpStatusCode.ServiceUnavailable)]
    [InlineData(SandboxErrorCode.DeadlineExceeded, HttpStatusCode.GatewayTimeout)]
    [InlineData(SandboxErrorCode.Conflict, HttpStatusCode.Conflict)]
    public async Task Errors_of_the_actors_keep_their_kind_and_words(SandboxErrorCode code, HttpStatusCode status)
    {
        _facade.World.Fault = new SandboxException(code, "said by the actor", "template");

        using var answer = await _facade.PostAsync("/v1/sessions", "{}");

        var name = char.ToLowerInvariant(code.ToString()[0]) + code.ToString()[1..];
        var problem = await Facade.ProblemAsync(answer, status, name, "template");
        Assert.Equal("said by the actor", (string?)problem["detail"]);
    }

    [Fact]
    public async Task A_fault_of_ours_shows_nothing_of_the_inside()
    {
        _facade.World.Fault = new InvalidOperationException("secret: /var/lib/inside");

        using var answer = await _facade.PostAsync("/v1/sessions", "{}");

        var problem = await Facade.ProblemAsync(answer, HttpStatusCode.InternalServerError, "internal");
        Assert.DoesNotContain("secret", problem.ToString(), StringComparison.Ordinal);
    }

    /// <summary>A stream whose length nobody can ask for, so that it is sent in chunks.</summary>
    private sealed class Unseekable(byte[] data) : MemoryStream(data)
    {
        public override bool CanSeek => false;
    }
}
