using System.Net;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Network;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.TestSupport;

/// <summary>A machine's network with one server open in it, HTTPS of <see cref="DocumentationServers.First"/>.</summary>
public static class OpenDoor
{
    public const string Server = DocumentationServers.First;

    public static async Task<FakeProxy> OpenAsync(IMicroVm vm)
    {
        var proxy = new FakeProxy(vm.Network!);
        await vm.Network!.OpenAsync([new OpenEndpoint(IPAddress.Parse(Server), 443, TimeSpan.FromHours(1))], CancellationToken.None);
        return proxy;
    }

    /// <summary>What is open is reached, and nothing else.</summary>
    public static async Task CheckAsync(IMicroVm vm)
    {
        using var proxy = await OpenAsync(vm);
        Assert.Equal($"to {Server}:443", await ConnectAsync(vm, Server, 443));
        foreach (var (address, port) in ((string, int)[])[(Server, 80), (DocumentationServers.Second, 443), ("169.254.169.254", 80), ("10.53.0.1", NetworkPlan.ProxyPort)])
        {
            Assert.Contains("Connection refused", await ConnectAsync(vm, address, port), StringComparison.Ordinal);
        }

        Assert.Equal(1, proxy.Accepted);
    }

    /// <summary>What the other end says first, or why it was not reached.</summary>
    public static async Task<string> ConnectAsync(IMicroVm vm, string address, int port)
    {
        var told = await ShellAsync(vm, $"exec 3<>/dev/tcp/{address}/{port} && head -c {$"to {address}:{port}".Length} <&3", timeoutMs: 60_000);
        return told.Stdout + told.Stderr;
    }
}
