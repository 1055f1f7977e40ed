using Sandbox.Abstractions;
using Sandbox.Isolation.Network;

namespace Sandbox.Egress.Log;

/// <summary>Turns the firewall's counts into records: one for each reason that packets were dropped for since the last look. Safe for concurrent use.</summary>
/// <param name="log">The session's log.</param>
public sealed class DropLog(IEgressLog log)
{
    private readonly Lock _gate = new();
    private NetworkDrops _last = new();

    /// <summary>Notes what has been dropped since the last time.</summary>
    /// <param name="drops">As <see cref="IGuestNetwork.ReadDropsAsync"/> says. Fewer than before: the network was made anew and counts from zero.</param>
    public void Observe(NetworkDrops drops)
    {
        ArgumentNullException.ThrowIfNull(drops);
        NetworkDrops last;
        lock (_gate)
        {
            last = drops.Total < _last.Total ? new NetworkDrops() : _last;
            _last = drops;
        }

        Note(drops.Tcp - last.Tcp, "TCP to an address and port that no name led to and no rule has open");
        Note(drops.Udp - last.Udp, "UDP elsewhere than to the session's DNS");
        Note(drops.NotPublic - last.NotPublic, "to addresses that are not public");
        Note(drops.Spoofed - last.Spoofed, "from an address that is not the session's");
        Note(drops.Rate - last.Rate, "beyond the rate of new connections or packets");
        Note(drops.Other - last.Other, "of another protocol");
    }

    private void Note(long count, string reason)
    {
        if (count > 0)
        {
            log.Write(new EgressRecord { Kind = EgressRecordKind.Drop, Outcome = EgressOutcome.Denied, Count = count, Reason = $"packets {reason}", By = "firewall" });
        }
    }
}
