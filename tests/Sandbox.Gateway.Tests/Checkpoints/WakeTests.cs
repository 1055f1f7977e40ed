using System.Net;
using Sandbox.Gateway.Tests.Harness;
using Xunit;

namespace Sandbox.Gateway.Tests.Checkpoints;

/// <summary>The choice whether a call may wake a paused session reaches the session, by query or by header.</summary>
public sealed class WakeTests : IAsyncLifetime
{
    private Facade _facade = null!;

    public async ValueTask InitializeAsync() => _facade = await Facade.StartAsync();

    public ValueTask DisposeAsync() => _facade.DisposeAsync();

    [Theory]
    [InlineData("", null, null)]
    [InlineData("?wake=false", null, false)]
    [InlineData("?wake=true", null, true)]
    [InlineData("", "false", false)]
    [InlineData("", "true", true)]
    [InlineData("?wake=true", "false", true)]
    public async Task The_choice_goes_with_the_call(string query, string? header, bool? choice)
    {
        var id = _facade.NewSession();
        foreach (var (method, path) in new[] { (HttpMethod.Get, "/metrics"), (HttpMethod.Get, "/executions"), (HttpMethod.Get, "/checkpoints"), (HttpMethod.Post, "/pause") })
        {
            _facade.World.WakeChoice = null;
            using var request = new HttpRequestMessage(method, $"/v1/sessions/{id}{path}{query}");
            if (header is not null)
            {
                request.Headers.Add("Sandbox-Wake", header);
            }

            using var answer = await _facade.Http.SendAsync(request);

            Assert.Equal((HttpStatusCode.OK, choice), (answer.StatusCode, _facade.World.WakeChoice));
        }
    }

    [Theory]
    [InlineData("no")]
    [InlineData("False")]
    [InlineData("1")]
    public async Task A_header_that_is_neither_is_refused(string value)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"/v1/sessions/{_facade.NewSession()}") { Headers = { { "Sandbox-Wake", value } } };

        using var answer = await _facade.Http.SendAsync(request);

        await Facade.ProblemAsync(answer, HttpStatusCode.BadRequest, "invalidArgument", "Sandbox-Wake");
    }
}
