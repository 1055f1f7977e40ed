using Microsoft.Extensions.DependencyInjection;

namespace Sandbox.Grains;

/// <summary>
/// The clock of sessions and hosts: a keyed <see cref="TimeProvider"/>, so that tests can move the time of sessions without
/// stopping the clock that Orleans itself lives by.
/// </summary>
public static class SandboxClock
{
    /// <summary>Key of the service.</summary>
    public const string Key = "sandbox";

    internal static TimeProvider Of(IServiceProvider services) => services.GetKeyedService<TimeProvider>(Key) ?? TimeProvider.System;
}
