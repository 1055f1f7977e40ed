namespace Sandbox.Isolation.Devices;

/// <summary>What a device is for, by its PCI class.</summary>
public enum DeviceKind
{
    /// <summary>Anything that is not handed out.</summary>
    Other = 0,

    /// <summary>A display controller (class 03): a graphics card, also one without a screen.</summary>
    Gpu = 1,

    /// <summary>A processing accelerator (class 12).</summary>
    Npu = 2,

    /// <summary>A bridge (class 06). Never handed out, and no reason to refuse a group.</summary>
    Bridge = 3,
}

/// <summary>A PCI function of a host, as the kernel shows it.</summary>
public sealed record HostDevice
{
    /// <summary>Where it is.</summary>
    public required PciAddress Address { get; init; }

    /// <summary>Who made it (0x10de is NVIDIA, 0x1002 AMD, 0x8086 Intel).</summary>
    public required ushort Vendor { get; init; }

    /// <summary>What it is, by its maker's number.</summary>
    public required ushort Device { get; init; }

    /// <summary>Class, subclass and programming interface, one byte each.</summary>
    public required uint Class { get; init; }

    /// <summary>The driver that has it, or <see langword="null"/>.</summary>
    public string? Driver { get; init; }

    /// <summary>
    /// Number of its IOMMU group: what is in it cannot be kept apart by hardware, and goes to one machine or none. <see langword="null"/> where there is no IOMMU: then it cannot be handed to a machine at all.
    /// </summary>
    public int? IommuGroup { get; init; }

    /// <summary>All in that group, itself included, in order.</summary>
    public IReadOnlyList<PciAddress> IommuMembers { get; init; } = [];

    /// <summary>The physical function that this virtual one is a part of (SR-IOV), or <see langword="null"/>.</summary>
    public PciAddress? PhysicalFunction { get; init; }

    /// <summary>Virtual functions that it has now.</summary>
    public IReadOnlyList<PciAddress> VirtualFunctions { get; init; } = [];

    /// <summary>Most virtual functions that it could have; 0 for one without SR-IOV.</summary>
    public int MaxVirtualFunctions { get; init; }

    /// <summary>Mediated devices that can be made of it.</summary>
    public IReadOnlyList<MdevType> MdevTypes { get; init; } = [];

    /// <summary>How the kernel can reset it, best first (<c>flr</c>, <c>bus</c>, …). Empty: it cannot, and so it can never be freed after use.</summary>
    public IReadOnlyList<string> ResetMethods { get; init; } = [];

    /// <summary>The firmware has shown its messages on it, and the host's console is likely to be there.</summary>
    public bool IsBootDisplay { get; init; }

    /// <summary>
    /// Whether it can go to a machine and come back: what it could reach is bounded (an IOMMU group), it can be reset, and it is not divided into virtual functions, which would lose their parent.
    /// </summary>
    public bool CanBeHandedOut => IommuGroup is not null && ResetMethods.Count > 0 && VirtualFunctions.Count == 0;

    /// <summary>NUMA node, or <see langword="null"/> where it has none.</summary>
    public int? NumaNode { get; init; }

    /// <summary>What it is for.</summary>
    public DeviceKind Kind => (Class >> 16) switch
    {
        0x03 => DeviceKind.Gpu,
        0x06 => DeviceKind.Bridge,
        0x12 => DeviceKind.Npu,
        _ => DeviceKind.Other,
    };

    /// <summary>
    /// Devices that cannot be used by anybody else while this one is: its group, the function it is a part of, and the functions that are parts of it. Two virtual functions of one physical function can: that is what they are for.
    /// </summary>
    public IReadOnlySet<PciAddress> Entangled =>
        IommuMembers.Concat(VirtualFunctions).Concat(PhysicalFunction is { } parent ? [parent] : []).Append(Address).ToHashSet();
}

/// <summary>A kind of mediated device.</summary>
/// <param name="Id">The kernel's name, for example <c>nvidia-474</c>.</param>
/// <param name="Name">For people, or empty.</param>
/// <param name="DeviceApi">How it is used, for example <c>vfio-pci</c>.</param>
/// <param name="Available">How many more can be made now.</param>
public sealed record MdevType(string Id, string Name, string DeviceApi, int Available);
