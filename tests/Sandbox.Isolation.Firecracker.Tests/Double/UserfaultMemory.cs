using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>
/// Memory whose pages somebody else serves, by the very mechanism that Firecracker uses: anonymous memory, registered with a userfaultfd that is sent to a socket. It is in two regions, as that of a large guest is.
/// </summary>
internal sealed unsafe class UserfaultMemory
{
    private const nuint Api = 0xc018aa3f;
    private const nuint Register = 0xc020aa00;
    private const ulong ApiVersion = 0xaa;
    private const ulong Missing = 1;
    private const int DontNeed = 4;

    private readonly byte* _address;
    private readonly long _length;

    /// <param name="userfault">A descriptor that was opened while this process might.</param>
    /// <param name="socketPath">Who serves.</param>
    /// <param name="length">Bytes of the memory.</param>
    /// <param name="features">What is asked of the kernel besides page faults.</param>
    public UserfaultMemory(int userfault, string socketPath, long length, ulong features = 0)
    {
        if (userfault < 0)
        {
            throw new DoubleException("this process may have no userfaultfd");
        }

        _length = length;
        _address = Posix.Map((nuint)length);
        var api = new ApiArguments { Version = ApiVersion, Features = features };
        Posix.Control(userfault, Api, &api, "UFFDIO_API");
        var half = length / 2 / GuestMemory.Page * GuestMemory.Page;
        foreach (var (offset, size) in ((long, long)[])[(0, half), (half, length - half)])
        {
            var register = new RegisterArguments { Begin = (ulong)(_address + offset), Length = (ulong)size, Mode = Missing };
            Posix.Control(userfault, Register, &register, "UFFDIO_REGISTER");
        }

        var description = FormattableString.Invariant(
            $"[{{\"base_host_virt_addr\":{(ulong)_address},\"size\":{half},\"offset\":0,\"page_size\":4096,\"page_size_kib\":4096}},{{\"base_host_virt_addr\":{(ulong)(_address + half)},\"size\":{length - half},\"offset\":{half},\"page_size\":4096,\"page_size_kib\":4096}}]");
        Send(userfault, socketPath, description);
    }

    /// <summary>What a process that was taken over might say.</summary>
    public static void SendNonsense(int userfault, string socketPath) => Send(userfault, socketPath, "[{\"base_host_virt_addr\":0,\"size\":4096,\"offset\":1099511627776}]");

    /// <summary>Tells the kernel that a page is not needed any more, as a balloon does.</summary>
    public void GiveBack(long index)
    {
        if (Posix.Advise(_address + (index * GuestMemory.Page), GuestMemory.Page, DontNeed) != 0)
        {
            throw new DoubleException($"madvise: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    /// <summary>Touches a page: waits for whoever serves it.</summary>
    public void Read(long index, Span<byte> page)
    {
        var at = index * GuestMemory.Page;
        if (at + page.Length > _length)
        {
            throw new DoubleException($"there is no page {index}");
        }

        new ReadOnlySpan<byte>(_address + at, page.Length).CopyTo(page);
    }

    private static void Send(int userfault, string socketPath, string description)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(socketPath));
        if (Posix.SendDescriptor(socket.SafeHandle, Encoding.ASCII.GetBytes(description), userfault) < 0)
        {
            throw new DoubleException($"sendmsg: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ApiArguments
    {
        public ulong Version;
        public ulong Features;
        public ulong Requests;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct RegisterArguments
    {
        public ulong Begin;
        public ulong Length;
        public ulong Mode;
        public ulong Requests;
    }
}
