using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>The traffic of this host's machines: who holds it to which policy.</summary>
internal sealed partial class HostRuntime
{
    private static readonly TimeSpan EgressRefresh = TimeSpan.FromSeconds(30);

    /// <summary>Holds a machine to another policy; see <see cref="IMicroVmGrain.SetEgressAsync"/>.</summary>
    public async Task<EgressMark> SetEgressAsync(string vmId, long generation, MicroVmEgress egress)
    {
        var machine = Find(vmId, generation);
        await machine.EgressTurn.WaitAsync();
        try
        {
            await HoldAsync(machine, egress, CancellationToken.None);
        }
        finally
        {
            machine.EgressTurn.Release();
        }

        return await MarkOfAsync(machine);
    }

    /// <summary>Where a machine's egress stands.</summary>
    public Task<EgressMark> GetEgressAsync(string vmId, long generation) => MarkOfAsync(Find(vmId, generation));

    /// <summary>Lines of a session's log that are on this host, whether its machine runs or not.</summary>
    public Task<EgressPage> ReadEgressLogAsync(string sessionId, long from, int max, TimeSpan wait)
    {
        LiveMicroVm? machine;
        lock (_gate)
        {
            machine = _machines.Of(sessionId).LastOrDefault(m => m.Egress is not null);
        }

        return machine?.Egress is { } live ? live.ReadLogAsync(from, max, wait) : _egress.ReadLogAsync(sessionId, from, max);
    }

    /// <summary>
    /// Puts a machine that has just been started under its policy. What reaches nothing needs nobody in its network and so delays no start: it gets its door, which then tells it quickly that all is closed, beside it.
    /// </summary>
    private async Task AttachEgressAsync(LiveMicroVm machine, CancellationToken cancellationToken)
    {
        if (machine.Machine?.Network is null)
        {
            return;
        }

        if (!machine.Start.Egress.Policy.ReachesNothing())
        {
            await HoldAsync(machine, machine.Start.Egress, cancellationToken);
            return;
        }

        _ = Task.Run(
            async () =>
            {
                try
                {
                    await SetEgressAsync(machine.VmId, machine.Generation, machine.Start.Egress);
                }
                catch (Exception e)
                {
                    _logger.LogDebug(e, "MicroVM {Vm} of session {Session} has no door; it reaches nothing either way", machine.VmId, machine.SessionId);
                }
            },
            CancellationToken.None);
    }

    private async Task HoldAsync(LiveMicroVm machine, MicroVmEgress egress, CancellationToken cancellationToken)
    {
        if (machine.Machine is not { Network: { } network } vm)
        {
            if (!egress.Policy.ReachesNothing() && machine.Machine is not null)
            {
                _logger.LogInformation("MicroVM {Vm} of session {Session} has no network; its policy has nothing to govern", machine.VmId, machine.SessionId);
            }

            return;
        }

        if (machine.Egress is { } live && egress.Version < live.Version)
        {
            return;
        }

        if (egress.Policy.LooksInside() && egress.Material is { } material && machine.TrustedAuthority != material.AuthorityCertificate)
        {
            await TrustAsync(vm.Guest, material.AuthorityCertificate, cancellationToken);
            machine.TrustedAuthority = material.AuthorityCertificate;
        }

        if (machine.Egress is { } present)
        {
            await present.UpdateAsync(egress, cancellationToken);
        }
        else
        {
            machine.Egress = await _egress.OpenAsync(machine, network, egress, cancellationToken);
        }
    }

    /// <summary>The guest's programs take the tenant's authority for one that signs for sites. It is their owner's and nobody else's, and only they see it.</summary>
    private static async Task TrustAsync(IGuest guest, string certificate, CancellationToken cancellationToken)
    {
        try
        {
            await guest.RequestAsync(new Sandbox.Guest.Protocol.Request { TrustAuthority = new TrustAuthority { Pem = certificate } }, cancellationToken);
        }
        catch (GuestException e)
        {
            throw SandboxException.Unavailable($"The session does not take the authority that intercepted sites are signed with: {e.Message}");
        }
    }

    private static async Task<EgressMark> MarkOfAsync(LiveMicroVm machine) =>
        machine.Egress is { } live ? await live.MarkAsync() : machine.Start.Egress.Mark with { Network = machine.Machine?.Network is not null };

    private async Task CloseEgressAsync(LiveMicroVm machine)
    {
        // A change under way makes no door for a machine that is gone.
        await machine.EgressTurn.WaitAsync();
        try
        {
            if (machine.Egress is { } live)
            {
                await live.DisposeAsync();
            }
        }
        catch (Exception e)
        {
            _logger.LogWarning(e, "The door of microVM {Vm} could not be closed whole", machine.VmId);
        }
        finally
        {
            machine.EgressTurn.Release();
        }
    }

    /// <summary>Secrets may have been replaced or deleted since a machine got them: those in use are looked at again.</summary>
    private async Task RefreshEgressAsync(CancellationToken cancellationToken)
    {
        List<LiveMicroVm> using_;
        lock (_gate)
        {
            using_ = [.. _machines.All.Where(m => m.Egress?.Present is { Policy.Secrets.Count: > 0 })];
        }

        foreach (var machine in using_)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var present = machine.Egress!.Present;
            var material = await _grains.GetGrain<ITenantEgressGrain>(machine.Start.Tenant).GetMaterialAsync(present.Policy.Secrets);
            if (!Same(material, present.Material))
            {
                await SetEgressAsync(machine.VmId, machine.Generation, present with { Material = material });
            }
        }
    }

    private static bool Same(EgressMaterial one, EgressMaterial? other) =>
        other is not null && one.Secrets.Count == other.Secrets.Count && one.Secrets.Zip(other.Secrets).All(p => p.First.Value.AsSpan().SequenceEqual(p.Second.Value));
}
