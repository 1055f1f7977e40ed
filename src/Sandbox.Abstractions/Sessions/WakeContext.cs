namespace Sandbox.Abstractions;

/// <summary>
/// Whether a call that needs the machine may resume a paused session. Carried by Orleans with the call, as <see cref="TenantContext"/> is. Unset: as the session was made (<see cref="CreateSessionRequest.WakeOnCall"/>).
/// A call that may not, on a paused session, is refused with <see cref="SandboxErrorCode.Conflict"/> and changes nothing.
/// </summary>
public static class WakeContext
{
    /// <summary>Key in <see cref="RequestContext"/>.</summary>
    public const string Key = "sandbox.wake";

    /// <summary>Whether the current call may wake a paused session; <see langword="null"/>: it does not say.</summary>
    public static bool? MayWake => RequestContext.Get(Key) as bool?;

    /// <summary>Decides for calls from here on.</summary>
    public static void Set(bool mayWake) => RequestContext.Set(Key, mayWake);
}
