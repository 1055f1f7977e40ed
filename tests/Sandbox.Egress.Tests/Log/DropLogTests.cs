using Sandbox.Abstractions;
using Sandbox.Egress.Log;
using Sandbox.Isolation.Network;
using Xunit;

namespace Sandbox.Egress.Tests.Log;

public sealed class DropLogTests
{
    [Fact]
    public async Task What_the_firewall_dropped_since_the_last_look_is_noted_by_reason()
    {
        await using var log = new EgressLog(new EgressLogOptions());
        var drops = new DropLog(log);

        drops.Observe(new NetworkDrops { Tcp = 3 });
        drops.Observe(new NetworkDrops { Tcp = 3 });
        drops.Observe(new NetworkDrops { Tcp = 3, Udp = 2 });
        drops.Observe(new NetworkDrops { Other = 1 });

        var records = log.Kept();
        Assert.All(records, r => Assert.Equal((EgressRecordKind.Drop, EgressOutcome.Denied, "firewall"), (r.Kind, r.Outcome, r.By)));
        Assert.Equal([3, 2, 1], records.Select(r => r.Count));
        Assert.Equal(6, log.Counters.DroppedPackets);
        Assert.Equal(0, log.Counters.Denied);
    }
}
