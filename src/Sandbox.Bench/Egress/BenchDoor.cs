using System.Net;
using Sandbox.Abstractions;
using Sandbox.Egress;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Log;
using Sandbox.Egress.Proxy;
using Sandbox.Egress.Proxy.Tls;
using Sandbox.Isolation.Network;

namespace Sandbox.Bench.Egress;

/// <summary>A machine's door as a server makes it, but for the DNS: the guest knows the address already.</summary>
internal sealed class BenchDoor : IPinnedNames, IEgressLog, IAsyncDisposable
{
    /// <summary>Where the guest goes. Nobody dials it.</summary>
    public static readonly IPAddress Address = IPAddress.Parse("1.2.3.4");
    private SessionProxy? _proxy;

    /// <summary>Opens it.</summary>
    public static async Task<BenchDoor> OpenAsync(ProxyHost host, IGuestNetwork network, bool intercept, LeafCertificates certificates, CancellationToken cancellationToken)
    {
        var door = new BenchDoor();
        var policy = new EgressPolicy { Rules = [new EgressRule { Host = BenchOrigin.Name, Intercept = intercept }], Limits = new EgressLimits { ConnectionsPerSecond = 1000 } };
        var context = new ProxyContextFactory().Create("bench", "bench", new EgressSettings { Policy = policy }, door, door, new AuditMemory());
        door._proxy = SessionProxy.Start(host, new GuestConnectionSource(network), context, certificates);
        await LetInAsync(network, cancellationToken);
        return door;
    }

    /// <summary>Opens the firewall for the one address.</summary>
    public static Task LetInAsync(IGuestNetwork network, CancellationToken cancellationToken) => network.ReplaceAsync([new OpenRange(new IPNetwork(Address, 32), 443, 443)], [], cancellationToken);

    public bool Holds(string name, IPAddress address) => true;

    public string? NameOf(IPAddress address) => BenchOrigin.Name;

    public Task<IReadOnlyList<IPAddress>> ResolveAsync(string name, CancellationToken cancellationToken) => Task.FromResult<IReadOnlyList<IPAddress>>([Address]);

    public void Write(EgressRecord record)
    {
        // Nobody reads it.
    }

    public ValueTask DisposeAsync() => _proxy?.DisposeAsync() ?? ValueTask.CompletedTask;
}
