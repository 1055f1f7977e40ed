using System.Text;

namespace Sandbox.Isolation.Network;

/// <summary>The tap that a VMM opens as <see cref="NetworkPlan.InterfaceName"/>. It is there before the VMM and stays until its namespace goes. Every method is called inside of the namespace and makes system calls only.</summary>
internal static unsafe class TapDevice
{
    private const string Path = "/dev/net/tun";
    private const nuint SetInterface = 0x400454ca;
    private const nuint SetPersistent = 0x400454cb;
    private const nuint SetOwner = 0x400454cc;

    /// <summary>A frame at a time, no protocol word before it, but virtio's header: checksums and large segments pass as they are.</summary>
    private const short Flags = 0x0002 | 0x1000 | 0x4000;

    /// <summary>Makes it. Nobody but root can open it yet: no one else is in the namespace.</summary>
    public static int Create() => With(fd => NetworkNative.Control(fd, SetPersistent, 1) == 0 ? 0 : throw NetworkNative.Failed("The machine's interface cannot be kept"));

    /// <summary>Lets one user open it.</summary>
    public static int Give(uint userId) => With(fd => NetworkNative.Control(fd, SetOwner, userId) == 0 ? 0 : throw NetworkNative.Failed($"The machine's interface cannot be given to user {userId}"));

    private static int With(Func<int, int> work)
    {
        var fd = NetworkNative.Open(Path, NetworkNative.ReadWrite | NetworkNative.CloseOnExec);
        if (fd < 0)
        {
            throw NetworkNative.Failed($"{Path} cannot be opened");
        }

        try
        {
            // struct ifreq: the name, then the flags.
            var request = stackalloc byte[40];
            new Span<byte>(request, 40).Clear();
            Encoding.ASCII.GetBytes(NetworkPlan.InterfaceName, new Span<byte>(request, 15));
            *(short*)(request + 16) = Flags;
            return NetworkNative.Control(fd, SetInterface, request) == 0 ? work(fd) : throw NetworkNative.Failed("The machine's interface (a tap) cannot be made or opened");
        }
        finally
        {
            _ = NetworkNative.Close(fd);
        }
    }
}
