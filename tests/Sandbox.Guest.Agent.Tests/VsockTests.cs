using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;

namespace Sandbox.Guest.Agent.Tests;

/// <summary>
/// The agent at a vsock port. There is no machine around the tests to connect from, so what is proved is that it asks the kernel for the very port it was told; the rest of the way is the same as on a unix socket.
/// </summary>
public sealed partial class VsockTests
{
    private const int Family = 40;
    private const uint Port = 1_234_567;

    [Fact]
    public async Task A_port_that_is_taken_is_said_by_its_number()
    {
        using var taken = new Bound(Port);
        Assert.SkipUnless(taken.IsBound, "This machine has no vsock.");

        var (exitCode, said) = await RunAsync("--vsock", $"{Port}");

        Assert.NotEqual(0, exitCode);
        Assert.Contains($"listen at vsock port {Port}: Address already in use", said, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("port")]
    [InlineData("-1")]
    [InlineData("4294967296")]
    public async Task What_is_no_port_is_not_tried(string text)
    {
        var (exitCode, said) = await RunAsync("--vsock", text);

        Assert.Equal(2, exitCode);
        Assert.Contains("usage: agent", said, StringComparison.Ordinal);
    }

    private static async Task<(int ExitCode, string Said)> RunAsync(params string[] arguments)
    {
        var agent = Path.Combine(typeof(VsockTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "AgentFolder").Value!, "agent.dll");
        using var process = Process.Start(new ProcessStartInfo("dotnet", ["exec", agent, .. arguments]) { RedirectStandardError = true })!;
        var said = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, said);
    }

    /// <summary>A port that nobody else gets.</summary>
    private sealed partial class Bound : IDisposable
    {
        private readonly int _socket = Open(Family, 1, 0);

        public Bound(uint port)
        {
            // struct sockaddr_vm: family, nothing, port, any address, nothing.
            byte[] address = [.. BitConverter.GetBytes(Family), .. BitConverter.GetBytes(port), 255, 255, 255, 255, 0, 0, 0, 0];
            IsBound = _socket >= 0 && Bind(_socket, address, address.Length) == 0;
        }

        public bool IsBound { get; }

        public void Dispose()
        {
            if (_socket >= 0)
            {
                _ = Close(_socket);
            }
        }

        [LibraryImport("libc", EntryPoint = "socket")]
        private static partial int Open(int family, int type, int protocol);

        [LibraryImport("libc", EntryPoint = "bind")]
        private static partial int Bind(int socket, byte[] address, int length);

        [LibraryImport("libc", EntryPoint = "close")]
        private static partial int Close(int socket);
    }
}
