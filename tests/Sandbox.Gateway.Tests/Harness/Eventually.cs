namespace Sandbox.Gateway.Tests.Harness;

/// <summary>Waiting for what the server does after its client has all it wants.</summary>
internal static class Eventually
{
    public static async Task UntilAsync(Func<bool> condition)
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!condition())
        {
            await Task.Delay(10, deadline.Token);
        }
    }
}
