using Sandbox.EndToEnd.Tests.Harness;
using Xunit;

namespace Sandbox.EndToEnd.Tests.E2b;

/// <summary>The npm packages <c>e2b</c> and <c>@e2b/code-interpreter</c>, unmodified, against a real server with real machines. What each program tries stands at its head.</summary>
[Collection(ServerGroup.Name)]
public sealed class SdkTests(ServerFixture fixture)
{
    [Theory]
    [InlineData("control")]
    [InlineData("refusals")]
    [InlineData("commands")]
    [InlineData("files")]
    [InlineData("pty")]
    [InlineData("interpreter")]
    [InlineData("bulk")]
    [InlineData("readers")]
    public Task The_sdk_works_unmodified(string scenario) => SdkScenario.RunAsync(scenario, fixture.Server);
}
