using Xunit;

namespace Sandbox.Grains.Tests.Support;

/// <summary>Waits for what has no event to wait for, with a deadline that only a fault reaches.</summary>
internal static class Eventually
{
    public static async Task TrueAsync(Func<Task<bool>> condition)
    {
        var until = Environment.TickCount64 + 90_000;
        while (!await condition())
        {
            if (Environment.TickCount64 > until)
            {
                Assert.Fail("What was waited for did not happen.");
            }

            await Task.Delay(20);
        }
    }
}
