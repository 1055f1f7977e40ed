namespace Sandbox.Guest.Agent.Platform;

/// <summary>
/// The agent in a container: under a user id that nothing else there has, with those capabilities of the container's user namespace that it needs to start and end programs of other users, and none
/// that reach beyond it. What it starts gets none of them.
/// </summary>
internal static unsafe class Container
{
    private const nint ProcessControl = 157;
    private const nint GetCapabilities = 125;
    private const nint SetCapabilities = 126;
    private const nint SetUser = 117;
    private const nint SetGroup = 119;
    private const nint SetGroups = 116;
    private const nint KeepCapabilities = 8;
    private const nint SetDumpable = 4;
    private const uint CapabilityVersion3 = 0x20080522;

    /// <summary>The agent runs in a container.</summary>
    public static bool Entered { get; private set; }

    /// <summary>The agent's own user id, as which nothing else may run; 0 outside of containers.</summary>
    public static uint OwnUser { get; private set; }

    private static uint OwnGroup { get; set; }

    private static Capabilities Own { get; set; }

    /// <summary>Called once, before anything else.</summary>
    public static void Enter()
    {
        Entered = true;
        (OwnUser, OwnGroup) = (Native.EffectiveUser(), Native.EffectiveGroup());
        Own = Read();

        // Nobody reads the agent's memory, whoever they have become.
        _ = Native.SystemCall(ProcessControl, SetDumpable, 0, 0);
    }

    /// <summary>
    /// The calling thread works as a user until <see cref="BecomeAgent"/>. The file-system identity alone, which does for a microVM, is not to be had from every kernel (gVisor's has none) and keeps the
    /// capabilities that a user must not have. Root keeps them: it stands for the session's owner, who may see and change every file of it.
    /// </summary>
    public static void BecomeUser(uint uid, uint gid, uint[] groups)
    {
        // Or the kernel would take the capabilities for good when root is left again.
        _ = Native.SystemCall(ProcessControl, KeepCapabilities, 1, 0);
        Switch(uid, gid, groups);
        Write(uid == 0 ? Own : Own with { Effective = 0 });
    }

    /// <summary>The calling thread is the agent's again.</summary>
    public static void BecomeAgent()
    {
        Write(Own);
        Switch(OwnUser, OwnGroup, [OwnGroup]);
        Write(Own);
    }

    private static void Switch(uint uid, uint gid, uint[] groups)
    {
        // Raw calls: libc's would change every thread.
        fixed (uint* list = groups)
        {
            if (Native.SystemCall(SetGroups, groups.Length, (nint)list, 0) != 0 || Native.SystemCall(SetGroup, -1, (nint)gid, -1) != 0 || Native.SystemCall(SetUser, -1, (nint)uid, -1) != 0)
            {
                // Working on as somebody else would be worse than not working on.
                Environment.FailFast("The agent cannot change its user: " + Native.Describe(Native.Errno));
            }
        }
    }

    private static Capabilities Read()
    {
        var header = stackalloc uint[2] { CapabilityVersion3, 0 };
        var data = stackalloc uint[6];
        _ = Native.SystemCall(GetCapabilities, (nint)header, (nint)data, 0);
        return new Capabilities(data[0] | ((ulong)data[3] << 32), data[1] | ((ulong)data[4] << 32), data[2] | ((ulong)data[5] << 32));
    }

    private static void Write(Capabilities given)
    {
        var header = stackalloc uint[2] { CapabilityVersion3, 0 };
        var data = stackalloc uint[6]
        {
            (uint)given.Effective, (uint)given.Permitted, (uint)given.Inheritable,
            (uint)(given.Effective >> 32), (uint)(given.Permitted >> 32), (uint)(given.Inheritable >> 32),
        };
        if (Native.SystemCall(SetCapabilities, (nint)header, (nint)data, 0) != 0)
        {
            Environment.FailFast("The agent cannot change its capabilities: " + Native.Describe(Native.Errno));
        }
    }

    private readonly record struct Capabilities(ulong Effective, ulong Permitted, ulong Inheritable);
}
