using System.Net;
using Sandbox.Gateway.Tests.Harness;
using Xunit;

namespace Sandbox.Gateway.Tests.Auth;

/// <summary>Without keys the browser on the same machine is the adversary.</summary>
public sealed class DevelopmentModeTests
{
    [Theory]
    [InlineData("Host", "evil.example", HttpStatusCode.Forbidden)]
    [InlineData("Host", "127.0.0.1.evil.example", HttpStatusCode.Forbidden)]
    [InlineData("Host", "localhost", HttpStatusCode.OK)]
    [InlineData("Host", "[::1]:8080", HttpStatusCode.OK)]
    [InlineData("Origin", "https://evil.example", HttpStatusCode.Forbidden)]
    [InlineData("Origin", "null", HttpStatusCode.Forbidden)]
    [InlineData("Origin", "http://localhost:3000", HttpStatusCode.OK)]
    [InlineData("Sec-Fetch-Site", "cross-site", HttpStatusCode.Forbidden)]
    [InlineData("Sec-Fetch-Site", "same-origin", HttpStatusCode.OK)]
    public async Task Requests_on_behalf_of_foreign_pages_are_refused(string header, string value, HttpStatusCode expected)
    {
        await using var facade = await Facade.StartAsync();
        using var request = new HttpRequestMessage(HttpMethod.Get, "/v1/sessions");
        request.Headers.TryAddWithoutValidation(header, value);

        using var answer = await facade.Http.SendAsync(request);

        Assert.Equal(expected, answer.StatusCode);
    }
}
