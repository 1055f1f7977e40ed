using System.Text;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;

namespace Sandbox.EndToEnd.Tests.E2b;

/// <summary>The SDK and servers of their own: one that is restarted under it, one that asks for keys.</summary>
public sealed class SdkRestartTests
{
    [Fact]
    public async Task With_keys_the_sdk_needs_one_in_the_spelling_it_takes_and_gets_its_own_error_for_a_bad_one()
    {
        var file = Path.GetTempFileName();
        await using var server = await SandboxServer.StartAsync(null, "--warm-pool", "0", "--bootstrap-key", file);
        var key = "e2b_" + Convert.ToHexStringLower(Encoding.ASCII.GetBytes((await File.ReadAllTextAsync(file)).Trim()));
        File.Delete(file);
        await SdkScenario.RunAsync("refusals", server, key, new Dictionary<string, string> { ["SCENARIO_KEYS"] = "1" });
    }

    [Fact]
    public async Task A_restart_in_mid_stream_loses_nothing_of_a_command_that_is_found_again_by_its_pid()
    {
        await using var server = await SandboxServer.StartAsync(null, "--warm-pool", "0");
        using var program = SdkScenario.Start("disconnect", server);
        var errors = program.StandardError.ReadToEndAsync();
        Assert.True(await program.StandardOutput.ReadLineAsync() == "running", await StateAsync());
        Assert.Equal(0, await server.StopAsync());
        await server.RestartAsync();
        await program.StandardInput.WriteLineAsync("restarted");
        await program.WaitForExitAsync(new CancellationTokenSource(TimeSpan.FromMinutes(2)).Token);
        Assert.True(program.ExitCode == 0, await StateAsync());

        async Task<string> StateAsync() => $"{(program.HasExited ? await errors : "it runs still")}\n{server.Log}";
    }
}
