namespace Sandbox.Abstractions;

/// <summary>
/// What a session needs of its isolation. Where a request names no backend, the scheduler picks one that has all of it, the strongest boundary first; where it names one, a lack is refused when the session is made and
/// not when it is first felt.
/// </summary>
[GenerateSerializer, Alias("sandbox.session-needs"), Immutable]
public sealed record SessionNeeds
{
    /// <summary>Nothing in particular.</summary>
    public static SessionNeeds Nothing { get; } = new();

    /// <summary>It must survive a pause with its processes and variables, not only with its files.</summary>
    [Id(0)] public bool MemorySnapshot { get; init; }

    /// <summary>It must have a network interface.</summary>
    [Id(1)] public bool Network { get; init; }

    /// <summary>The least that must stand between its code and the host; unset: whatever <see cref="CreateSessionRequest.Untrusted"/> asks for.</summary>
    [Id(2)] public IsolationBoundary? Boundary { get; init; }

    /// <summary>
    /// Devices of the host that it must have to itself. At most 16 in all. A session that has some is saved with its disk alone where its backend does that, and else not at all: the state inside of a device cannot be saved.
    /// </summary>
    [Id(3)] public IReadOnlyList<DeviceNeed> Devices { get; init; } = [];
}

/// <summary>Devices of one kind.</summary>
/// <param name="Kind">What it is: <c>gpu</c>, <c>npu</c>, a PCI vendor (<c>10de</c>), or vendor and device (<c>10de:2684</c>), in lower-case hexadecimal of four digits.</param>
/// <param name="Count">How many, 1 to 16.</param>
[GenerateSerializer, Alias("sandbox.device-need"), Immutable]
public sealed record DeviceNeed([property: Id(0)] string Kind, [property: Id(1)] int Count = 1);

/// <summary>What stands between a session's code and the host, from nothing to most.</summary>
[GenerateSerializer, Alias("sandbox.isolation-boundary")]
public enum IsolationBoundary
{
    /// <summary>Nothing: the backend runs no real code.</summary>
    None = 0,

    /// <summary>The host's own kernel, confined by namespaces, cgroups and a filter of system calls. Refused for untrusted code.</summary>
    HostKernel = 1,

    /// <summary>A WebAssembly runtime.</summary>
    WebAssembly = 2,

    /// <summary>A kernel in user space (gVisor).</summary>
    UserSpaceKernel = 3,

    /// <summary>A hypervisor or an emulator with a kernel of its own inside.</summary>
    VirtualMachine = 4,
}
