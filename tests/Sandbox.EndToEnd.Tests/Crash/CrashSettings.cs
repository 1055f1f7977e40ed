using System.Globalization;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>What a run of random kills takes from the environment, so that a longer one, or one that failed, can be asked for.</summary>
internal static class CrashSettings
{
    /// <summary>How often servers are killed in one run; <c>SANDBOX_CRASH_KILLS</c>.</summary>
    public static int Kills(int usual) => Number("SANDBOX_CRASH_KILLS") ?? usual;

    /// <summary>Where the random choices begin; <c>SANDBOX_CRASH_SEED</c>. The same seed makes the same choices, but the processes race as they like: it is repeated more than once to see a fault again.</summary>
    public static int Seed() => Number("SANDBOX_CRASH_SEED") ?? Random.Shared.Next(1_000_000);

    private static int? Number(string name) => int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;
}
