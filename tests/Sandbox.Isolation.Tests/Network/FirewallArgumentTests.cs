using System.Net;
using Sandbox.Isolation.Network;
using Xunit;

namespace Sandbox.Isolation.Tests.Network;

/// <summary>What is refused before any program is told.</summary>
public sealed class FirewallArgumentTests
{
    [Theory]
    [InlineData("2001:db8::1", 443, 1)]
    [InlineData("198.51.100.7", 0, 1)]
    [InlineData("198.51.100.7", 65536, 1)]
    [InlineData("198.51.100.7", 443, 0)]
    [InlineData("198.51.100.7", 443, -1)]
    [InlineData("198.51.100.7", 443, 86_401)]
    public async Task Endpoints_out_of_range(string address, int port, int seconds)
    {
        await using var scene = new NetworkScene();
        await using var network = await scene.Pool.TakeAsync(TestContext.Current.CancellationToken);
        OpenEndpoint[] endpoints = [new(IPAddress.Parse(address), port, TimeSpan.FromSeconds(seconds))];
        await Assert.ThrowsAsync<ArgumentException>(() => network.OpenAsync(endpoints, default));
        await Assert.ThrowsAsync<ArgumentException>(() => network.ReplaceAsync([], endpoints, default));
    }

    [Theory]
    [InlineData("2001:db8::/32", 1, 2)]
    [InlineData("198.51.100.0/24", 0, 2)]
    [InlineData("198.51.100.0/24", 3, 2)]
    [InlineData("198.51.100.0/24", 1, 65536)]
    public async Task Ranges_out_of_range(string range, int first, int last)
    {
        await using var scene = new NetworkScene();
        await using var network = await scene.Pool.TakeAsync(TestContext.Current.CancellationToken);
        await Assert.ThrowsAsync<ArgumentException>(() => network.ReplaceAsync([new OpenRange(IPNetwork.Parse(range), first, last)], [], default));
    }

    [Fact]
    public void Every_range_that_is_not_public_is_known_by_default()
    {
        foreach (var address in (string[])["0.1.2.3", "10.1.2.3", "100.127.255.255", "127.0.0.1", "169.254.169.254", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.168.0.1", "198.19.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"])
        {
            Assert.Contains(NotPublicRanges.Default, n => n.Contains(IPAddress.Parse(address)));
        }

        foreach (var address in (string[])["1.1.1.1", "9.9.9.9", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255"])
        {
            Assert.DoesNotContain(NotPublicRanges.Default, n => n.Contains(IPAddress.Parse(address)));
        }
    }
}
