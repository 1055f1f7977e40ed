using Sandbox.Abstractions;

namespace Sandbox.Grains.Scheduling;

/// <summary>Chooses among hosts by what they report. A pure function, so that every rule has a test.</summary>
internal static class PlacementPolicy
{
    /// <summary>A host that has said nothing for so long is not placed on.</summary>
    public static readonly TimeSpan Silence = TimeSpan.FromSeconds(15);

    /// <summary>Chooses a host for a request.</summary>
    /// <exception cref="SandboxException">None fits; the message says of each host why not.</exception>
    public static Placement Choose(PlacementRequest request, IReadOnlyCollection<HostReport> hosts, DateTimeOffset now)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(hosts);
        var reasons = new List<string>();
        var full = false;
        var hopeless = hosts.Count > 0;
        var elsewhere = false;
        var fitting = new List<(HostReport Host, HostBackend Backend)>();
        foreach (var host in hosts.OrderBy(h => h.HostId, StringComparer.Ordinal))
        {
            if (Refusal(request, host, now, out var backend, out var lacksRoom, out var cannot) is { } reason)
            {
                reasons.Add($"{host.HostId}: {reason}");
                full |= lacksRoom;
                hopeless &= cannot;
                elsewhere |= !cannot && DevicePlacement.CouldEver(request, host);
            }
            else
            {
                // Which of a host's backends can hand a device out is seen when the devices are.
                fitting.AddRange(request.Needs.Devices.Count > 0 ? BackendMatch.Fitting(request, host).Select(b => (host, b)) : [(host, backend!)]);
            }
        }

        if (fitting.Count == 0)
        {
            var looked = reasons.Count > 0 ? string.Join("; ", reasons) : "no host has reported yet";
            throw new SandboxException(
                hopeless ? SandboxErrorCode.Unsupported : full ? SandboxErrorCode.ResourceExhausted : SandboxErrorCode.Unavailable,
                $"No host can take a session of template '{request.Template}' with {request.MemoryMiB} MiB ({looked}).");
        }

        if (request.Needs.Devices.Count > 0)
        {
            return DevicePlacement.Choose(request, fitting, elsewhere);
        }

        // The preferred host first, then the strongest boundary, then hardware virtualisation, then one with a warm machine, then the most free memory; ids break ties, so that the choice can be repeated.
        var (chosen, use) = fitting
            .OrderByDescending(f => f.Host.HostId == request.PreferredHost)
            .ThenByDescending(f => f.Backend.Boundary)
            .ThenByDescending(f => f.Backend.Accelerator == "kvm")
            .ThenByDescending(f => f.Host.Warm.GetValueOrDefault(request.Template) > 0)
            .ThenByDescending(f => f.Host.MemoryMiB - f.Host.MemoryLeasedMiB)
            .ThenBy(f => f.Host.HostId, StringComparer.Ordinal)
            .First();
        return new Placement(chosen.HostId, use.Name, chosen.Templates[request.Template]);
    }

    private static string? Refusal(PlacementRequest request, HostReport host, DateTimeOffset now, out HostBackend? backend, out bool lacksRoom, out bool cannot)
    {
        backend = null;
        lacksRoom = false;
        cannot = false;
        if (request.PreferredHostOnly && host.HostId != request.PreferredHost)
        {
            return "it does not have the session's disk";
        }

        if (now - host.At > Silence)
        {
            return $"silent for {(now - host.At).TotalSeconds:0} s";
        }

        if (host.Draining)
        {
            return "it is being stopped";
        }

        if (request.Excluded.Contains(host.HostId))
        {
            return "it was tried already";
        }

        if (!host.Templates.ContainsKey(request.Template))
        {
            return $"it does not have template '{request.Template}'";
        }

        (backend, var refusal, cannot) = BackendMatch.Choose(request, host);
        if (backend is null)
        {
            return refusal;
        }

        if (host.MicroVms >= host.MaxMicroVms)
        {
            lacksRoom = true;
            return $"it has {host.MicroVms} microVMs, the most it takes";
        }

        if (host.MemoryMiB - host.MemoryLeasedMiB < request.MemoryMiB)
        {
            lacksRoom = true;
            return $"{host.MemoryMiB - host.MemoryLeasedMiB} MiB of its {host.MemoryMiB} MiB are free";
        }

        return null;
    }
}
