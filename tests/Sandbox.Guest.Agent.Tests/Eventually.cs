namespace Sandbox.Guest.Agent.Tests;

/// <summary>Waits for what must come, however slow the machine.</summary>
internal static class Eventually
{
    public static async Task IsAsync(Func<bool> condition)
    {
        var until = DateTime.UtcNow + AgentFixture.Patience;
        while (!condition())
        {
            Assert.True(DateTime.UtcNow < until, "What must come did not come.");
            await Task.Delay(20);
        }
    }
}
