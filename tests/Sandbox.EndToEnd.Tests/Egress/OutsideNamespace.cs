using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Xunit;

namespace Sandbox.EndToEnd.Tests.Egress;

/// <summary>
/// A network namespace that is the outside: joined to the host by a cable of its own, with addresses of a documentation range, which the server is told to take for public. Sockets are made inside of it; the host reaches
/// them by its route, and nothing else leads there.
/// </summary>
internal sealed partial class OutsideNamespace : IDisposable
{
    public const string Range = "198.51.100.0/24";
    private const int NewNetwork = 0x40000000;
    private const string Prefix = "sbxout";
    private readonly string _name = $"{Prefix}{Environment.ProcessId}";

    public OutsideNamespace(IEnumerable<IPAddress> addresses)
    {
        // A run that was killed has left its own, and with it a route.
        foreach (var left in Directory.Exists("/run/netns") ? Directory.EnumerateFiles("/run/netns", Prefix + "*").Select(f => Path.GetFileName(f)!) : [])
        {
            if (!Directory.Exists("/proc/" + left[Prefix.Length..]))
            {
                Run("ip", "netns", "del", left);
            }
        }

        Run("ip", "netns", "add", _name);
        var cable = $"sbxo{Environment.ProcessId}";
        Run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", _name);
        Run("ip", "addr", "add", $"{HostAddress}/24", "dev", cable);
        Run("ip", "link", "set", cable, "up");
        foreach (var address in addresses)
        {
            Run("ip", "-n", _name, "addr", "add", $"{address}/24", "dev", "eth0");
        }

        Run("ip", "-n", _name, "link", "set", "lo", "up");
        Run("ip", "-n", _name, "link", "set", "eth0", "up");
    }

    /// <summary>The host's own address on the cable.</summary>
    public static IPAddress HostAddress { get; } = IPAddress.Parse("198.51.100.1");

    /// <summary>Makes a socket in the namespace. It stays there, whoever uses it.</summary>
    public Socket Make(Func<Socket> make)
    {
        Socket? made = null;
        Exception? problem = null;
        var thread = new Thread(() =>
        {
            try
            {
                using var file = File.OpenHandle($"/run/netns/{_name}");
                if (SetNamespace((int)file.DangerousGetHandle(), NewNetwork) != 0)
                {
                    throw new IOException($"setns: {Marshal.GetLastPInvokeErrorMessage()}");
                }

                made = make();
            }
            catch (Exception e)
            {
                problem = e;
            }
        });

        // It is in the namespace for good, so it does nothing else.
        thread.Start();
        thread.Join();
        if (problem is not null)
        {
            ExceptionDispatchInfo.Throw(problem);
        }

        return made!;
    }

    public Socket Listen(IPAddress address, int port) => Make(() =>
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.SetSocketOption(SocketOptionLevel.Socket, SocketOptionName.ReuseAddress, true);
        socket.Bind(new IPEndPoint(address, port));
        socket.Listen(128);
        return socket;
    });

    public void Dispose() => Run("ip", "netns", "del", _name);

    private static void Run(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        var said = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program} {string.Join(' ', arguments)}: {said}");
    }

    [LibraryImport("libc", EntryPoint = "setns", SetLastError = true)]
    private static partial int SetNamespace(int descriptor, int type);
}
