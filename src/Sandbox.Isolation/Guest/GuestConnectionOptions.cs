using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest;

/// <summary>Deadlines of a <see cref="GuestConnection"/>. Each is a bound on how long a silent or hostile guest can keep its host waiting.</summary>
public sealed record GuestConnectionOptions
{
    /// <summary>How long (re)connecting may take in all: opening the byte stream, the guest's boot, its <see cref="Hello"/>. Default 60 s.</summary>
    public TimeSpan HelloDeadline { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How often preamble and <see cref="Hello"/> are repeated until the guest answers. Default 1 s.</summary>
    public TimeSpan HelloInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How long one request may take, from the call to its answer. Default 30 s.</summary>
    public TimeSpan RequestTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>
    /// How long a cut connection waits for <see cref="GuestConnection.ReconnectAsync"/> before it is closed for good, its executions lost.
    /// Default zero: a cut is the end. The owner may reconnect at any time while the connection is not cut.
    /// </summary>
    public TimeSpan ReconnectWindow { get; init; } = TimeSpan.Zero;

    /// <summary>How often the guest is asked for a sign of life, or <see langword="null"/> (the default) for never: a paused machine cannot answer.</summary>
    public TimeSpan? PingInterval { get; init; }

    /// <summary>How long one ping may take before the connection is closed. Default 30 s.</summary>
    public TimeSpan PingTimeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>The clock behind every deadline here.</summary>
    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;
}
