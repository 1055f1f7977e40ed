using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Streams;

namespace Sandbox.Isolation.Guest;

// Connections to programs in the guest.
public sealed partial class GuestConnection
{
    private int _openPorts;

    /// <inheritdoc/>
    public async Task<IGuestPort> OpenPortAsync(int port, CancellationToken cancellationToken)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(port, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(port, ushort.MaxValue);
        GuestPort? opened = null;
        await AskAsync(new Request { OpenPort = new OpenPort { Port = (uint)port } }, (gate, id, _) => opened = gate.AdoptPort(id), cancellationToken).ConfigureAwait(false);
        return opened!;
    }

    /// <summary>Called under the lock.</summary>
    private GuestPort AdoptPort(ulong id)
    {
        var port = new GuestPort(SendOnPortAsync, ForgetPort) { Id = id };
        _streams[id] = port;

        // The agent refuses beyond the limit, and says its last word on a connection before it counts it no more.
        if (++_openPorts > ProtocolLimits.MaxPortConnections)
        {
            _ = Task.Run(() => CloseForGood($"the guest broke the protocol: it holds more than {ProtocolLimits.MaxPortConnections} connections to ports.", logAsViolation: true));
        }

        return port;
    }

    private void ForgetPort(GuestPort port)
    {
        lock (_gate)
        {
            if (_streams.TryGetValue(port.Id, out var stream) && ReferenceEquals(stream, port))
            {
                _streams.Remove(port.Id);
                _openPorts--;
            }
        }
    }

    private async Task SendOnPortAsync(Frame frame, CancellationToken cancellationToken)
    {
        var link = RequireLink();
        try
        {
            await SendOnAsync(link, () => frame, cancellationToken).ConfigureAwait(false);
        }
        catch (IOException e) when (e is not GuestUnavailableException)
        {
            throw new GuestUnavailableException($"The channel to guest {Name} was cut.", e);
        }
    }
}
