using Xunit;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>As <see cref="RandomKillTests"/>, with real machines: some kills, because each costs seconds.</summary>
public sealed class RandomKillQemuTests(ITestOutputHelper output)
{
    [Fact]
    public async Task A_server_with_real_machines_killed_at_random_moments_leaves_no_process_group_or_directory_behind()
    {
        await using var target = new QemuTarget();
        await new CrashRun(target, CrashSettings.Seed(), output.WriteLine).RunAsync(6);
    }
}
