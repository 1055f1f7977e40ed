using Xunit;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>
/// Servers that are killed with SIGKILL at random moments of create, pause, resume, fork, checkpoint, rollback and delete, with the null backend, many times. Two at once, each with its own data: most of the time goes into
/// starting .NET programs.
/// </summary>
public sealed class RandomKillTests(ITestOutputHelper output)
{
    [Fact]
    public async Task Servers_killed_at_random_moments_lose_nothing_that_was_acknowledged_and_leave_nothing_behind()
    {
        var (kills, seed) = (CrashSettings.Kills(60), CrashSettings.Seed());
        await Task.WhenAll(Enumerable.Range(0, 2).Select(async lane =>
        {
            await using var target = new NullTarget();
            await new CrashRun(target, seed + lane, output.WriteLine).RunAsync(kills / 2);
        }));
    }
}
