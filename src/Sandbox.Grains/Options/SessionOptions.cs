namespace Sandbox.Grains;

/// <summary>Defaults and ceilings of sessions.</summary>
public sealed class SessionOptions
{
    /// <summary>Idle timeout of a session that names none.</summary>
    public TimeSpan DefaultIdleTimeout { get; set; } = TimeSpan.FromMinutes(30);

    /// <summary>Lifetime of a session that names none; the time it is paused counts.</summary>
    public TimeSpan DefaultMaxLifetime { get; set; } = TimeSpan.FromDays(30);

    /// <summary>Longest idle timeout that may be asked for.</summary>
    public TimeSpan IdleTimeoutCeiling { get; set; } = TimeSpan.FromDays(30);

    /// <summary>Longest lifetime that may be asked for.</summary>
    public TimeSpan MaxLifetimeCeiling { get; set; } = TimeSpan.FromDays(365);

    /// <summary>Most vCPUs of a session, at most 32.</summary>
    public int MaxVcpus { get; set; } = 32;

    /// <summary>Most memory of a session in MiB, at most 65536.</summary>
    public int MaxMemoryMiB { get; set; } = 65536;

    /// <summary>Largest disk of a session in MiB, at most 1048576.</summary>
    public int MaxDiskMiB { get; set; } = 1048576;

    /// <summary>Most sessions that a tenant has at once. 0: no limit.</summary>
    public int MaxSessionsPerTenant { get; set; } = 1000;

    /// <summary>How long after the activation of a part of a tenant's index its newest entries are looked at: one whose session a crash kept from being made is removed. Longer than the making of a session takes.</summary>
    public TimeSpan IndexCheckDelay { get; set; } = TimeSpan.FromMinutes(2);

    /// <summary>How long the final state of an ended session (and the outputs of a failed one) can be read.</summary>
    public TimeSpan Retention { get; set; } = TimeSpan.FromHours(24);

    /// <summary>How many hosts are tried before a new session fails.</summary>
    public int StartAttempts { get; set; } = 3;

    /// <summary>How long a session waits for the host that holds its disk to come back before it fails.</summary>
    public TimeSpan HostReturnTimeout { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>How long the host of a session may be away before the session goes on elsewhere, from its newest checkpoint, if it has one.</summary>
    public TimeSpan HostLossTimeout { get; set; } = TimeSpan.FromSeconds(20);

    /// <summary>Most checkpoints of a session that somebody asked for.</summary>
    public int MaxCheckpoints { get; set; } = 64;

    /// <summary>How many checkpoints of pauses and policies are kept; older ones go.</summary>
    public int KeptCheckpoints { get; set; } = 2;

    /// <summary>How long nothing happens before <see cref="Abstractions.CheckpointPolicy.OnIdle"/> takes a checkpoint.</summary>
    public TimeSpan CheckpointIdleDelay { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>After a pause or a checkpoint by itself has failed, how long until the next try.</summary>
    public TimeSpan SaveRetryDelay { get; set; } = TimeSpan.FromMinutes(1);

    /// <summary>How often an active session makes sure that its microVM and host are still there.</summary>
    public TimeSpan LivenessPeriod { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>So many microVMs lost within <see cref="CrashLoopWindow"/> are a crash loop: the session fails.</summary>
    public int CrashLoopLimit { get; set; } = 3;

    /// <summary>See <see cref="CrashLoopLimit"/>.</summary>
    public TimeSpan CrashLoopWindow { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>How often an active session looks at its clock. Bounds how late an idle timeout may be.</summary>
    public TimeSpan ClockPeriod { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>Pause between two attempts to bring a session back.</summary>
    public TimeSpan RetryDelay { get; set; } = TimeSpan.FromSeconds(1);
}
