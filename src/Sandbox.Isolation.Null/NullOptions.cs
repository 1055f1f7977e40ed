namespace Sandbox.Isolation.Null;

/// <summary>How <see cref="NullBackend"/> works. The defaults are for measuring: no file is kept of a machine but its disk.</summary>
public sealed record NullOptions
{
    /// <summary>The host whose machines these are; part of <see cref="RuntimeRoot"/>'s paths.</summary>
    public string HostId { get; init; } = "host";

    /// <summary>
    /// Where each machine leaves the record of its owner, <c>&lt;root&gt;/&lt;host&gt;/vm-&lt;id&gt;/owner.json</c>, from its start to its removal, so that a test can look for orphans.
    /// <see langword="null"/>: none.
    /// </summary>
    public string? RuntimeRoot { get; init; }

    /// <summary>
    /// Where each machine of a session holds <c>&lt;session&gt;.live</c> open, with a lock that the kernel takes back when the process dies, for as long as it lives. Two at once are an error that is
    /// written down in <c>violations.log</c> there. <see langword="null"/>: nobody watches.
    /// </summary>
    public string? LiveDirectory { get; init; }

    /// <summary>Pages of random content that a save adds to the machine's state, as the memory that a real machine has written since: 0..1024. A restore verifies them.</summary>
    public int DirtyPages { get; init; } = 8;

    /// <summary>Claim to hand devices to machines, for tests of what is around that: the machines do nothing with them.</summary>
    public bool Devices { get; init; }

    /// <summary>The clock inside the machines.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;
}
