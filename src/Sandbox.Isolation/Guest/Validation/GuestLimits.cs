namespace Sandbox.Isolation.Guest.Validation;

/// <summary>Limits the host sets on its own account, beside the agreed <see cref="Sandbox.Guest.Protocol.ProtocolLimits"/>.</summary>
internal static class GuestLimits
{
    /// <summary>Requests given up by their callers whose late answer is still awaited. A guest that leaves more unanswered is as good as dead.</summary>
    public const int MaxAbandoned = 1024;

    /// <summary>Ended streams remembered, so that a credit that was under way is not taken for a violation.</summary>
    public const int MaxEndedRemembered = 256;

    /// <summary>Executions a guest may list in its <c>Hello</c>: those running, and ended ones with output unacknowledged.</summary>
    public const int MaxListedExecutions = 1024;

    /// <summary>Stale bytes a new connection skips before it takes the guest for a babbler.</summary>
    public const long MaxStaleBytes = 64L * 1024 * 1024;

    /// <summary>Complete but wrong hellos that are tried before giving up: each costs a decode.</summary>
    public const int MaxWrongHellos = 64;

    /// <summary>Pings under way at once.</summary>
    public const int MaxPings = 16;

    /// <summary>How long a guest is waited for before its machine is stopped and saved. One that does not answer by then finds its way back by itself.</summary>
    public static readonly TimeSpan Quiescence = TimeSpan.FromSeconds(2);

    /// <summary>MIME types in one result.</summary>
    public const int MaxResultTypes = 64;

    /// <summary>Longest name (MIME type, user, group, language, id), in bytes.</summary>
    public const int MaxNameBytes = 255;

    /// <summary>Arguments in one listed command line.</summary>
    public const int MaxArguments = 4096;

    /// <summary>Events of one watch held for a slow reader; beyond it the oldest are dropped and counted.</summary>
    public const int MaxWatchQueue = 256;
}
