namespace Sandbox.Isolation.Devices;

/// <summary>Where a device is in its life between tenants. There is no way back to <see cref="Free"/> but through a reset that succeeded.</summary>
public enum DeviceState
{
    /// <summary>It may be leased.</summary>
    Free = 0,

    /// <summary>A session has it, or will as soon as its machine starts.</summary>
    Leased = 1,

    /// <summary>A session has had it: what is in its memory is that session's.</summary>
    Dirty = 2,

    /// <summary>It is being reset. Found after a crash, that is the same as dirty.</summary>
    Resetting = 3,
}

/// <summary>Who has a device.</summary>
/// <param name="SessionId">The session.</param>
/// <param name="Generation">Its fencing number.</param>
/// <param name="VmId">The machine.</param>
/// <param name="HostId">The server that runs it, where several share a machine and its devices; empty where only one does.</param>
public sealed record DeviceOwner(string SessionId, long Generation, string VmId, string HostId = "");

/// <summary>What is written down of a device that has ever been leased.</summary>
public sealed record DeviceLease
{
    /// <summary>The device.</summary>
    public required PciAddress Address { get; init; }

    /// <summary>Where it is between tenants.</summary>
    public required DeviceState State { get; init; }

    /// <summary>Who has it, or has had it last.</summary>
    public required DeviceOwner Owner { get; init; }

    /// <summary>All that is held with it: its IOMMU group, and its physical or virtual functions, at the time of the lease.</summary>
    public required IReadOnlyList<PciAddress> Entangled { get; init; }

    /// <summary>Drivers of the devices of its group before they were given to vfio-pci, to be given back; an empty text for none.</summary>
    public IReadOnlyDictionary<string, string> Drivers { get; init; } = new Dictionary<string, string>();

    /// <summary>Whether it and another device cannot be had by two at once.</summary>
    public bool Excludes(HostDevice other)
    {
        ArgumentNullException.ThrowIfNull(other);
        return Address == other.Address || Entangled.Contains(other.Address) || other.Entangled.Contains(Address);
    }

    /// <summary>When it last changed (UTC).</summary>
    public required DateTimeOffset ChangedAt { get; init; }

    /// <summary>Resets in a row that failed.</summary>
    public int FailedResets { get; init; }

    /// <summary>Why the last one failed, for people.</summary>
    public string? Problem { get; init; }
}

/// <summary>Why a device cannot be had or given back. The message is fit for users.</summary>
public sealed class DeviceException : Exception
{
    /// <summary>Makes an exception that says what failed, to what, and what to do.</summary>
    public DeviceException(string message)
        : base(message)
    {
    }

    /// <summary>Makes an exception that wraps a cause.</summary>
    public DeviceException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
