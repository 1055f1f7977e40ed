using System.Globalization;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;

namespace Sandbox.EndToEnd.Tests.E2b;

/// <summary>The npm packages <c>e2b</c> and <c>@e2b/code-interpreter</c>, unmodified, against a real server with real machines. What each program tries stands at its head.</summary>
[Collection(ServerGroup.Name)]
public sealed class SdkTests(ServerFixture fixture)
{
    /// <summary>See proc_pid_clear_refs(5).</summary>
    private const string ResetPeak = "5";

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
        // From here on: what the tests before this one had the server hold (machines set aside, a golden memory) is not this one's business.
        await File.WriteAllTextAsync($"/proc/{fixture.Server.ProcessId}/clear_refs", ResetPeak);
        var before = Peak();

        await SdkScenario.RunAsync("bulk", fixture.Server, more: new Dictionary<string, string> { ["SCENARIO_MIB"] = "1024" });

        var grown = Peak() - before;
        Assert.True(grown < 256, $"The server grew by {grown} MiB, from {before}, while a gibibyte went through it.");
    }

    /// <summary>The most memory the server has had at once, in MiB.</summary>
    private long Peak()
    {
        var line = File.ReadLines($"/proc/{fixture.Server.ProcessId}/status").Single(l => l.StartsWith("VmHWM:", StringComparison.Ordinal));
        return long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2], CultureInfo.InvariantCulture) >> 10;
    }
}
