namespace Sandbox.EndToEnd.Tests.Harness;

/// <summary>Waiting for what comes true in its time.</summary>
internal static class Patience
{
    /// <summary>While a cluster gets over a death, calls may fail for some seconds; they must not fail for long.</summary>
    public static async Task<T> EventuallyAsync<T>(Func<Task<T>> call)
    {
        var deadline = DateTime.UtcNow + TimeSpan.FromMinutes(3);
        while (true)
        {
            try
            {
                return await call();
            }
            catch (Exception e) when (e is Xunit.Sdk.XunitException or HttpRequestException or IOException && DateTime.UtcNow < deadline)
            {
                await Task.Delay(500);
            }
        }
    }
}
