using Sandbox.EndToEnd.Tests.Harness;
using Xunit;

namespace Sandbox.EndToEnd.Tests.E2b;

/// <summary>The SDK and servers of their own: one that is restarted under it, one that asks for keys.</summary>
public sealed class SdkRestartTests
{
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
