using System.Globalization;
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
    [InlineData("readers")]
    public Task The_sdk_works_unmodified(string scenario) => SdkScenario.RunAsync(scenario, fixture.Server);

    [Fact]
    public async Task A_gibibyte_goes_up_and_down_and_the_server_does_not_hold_it()
    {
        await SdkScenario.RunAsync("bulk", fixture.Server, more: new Dictionary<string, string> { ["SCENARIO_MIB"] = "1024" });

        var status = await File.ReadAllLinesAsync($"/proc/{fixture.Server.ProcessId}/status");
        var peak = long.Parse(status.Single(l => l.StartsWith("VmHWM:", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2], CultureInfo.InvariantCulture) >> 10;
        Assert.InRange(peak, 1, 700);
    }
}
