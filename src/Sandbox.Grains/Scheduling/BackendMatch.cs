using Sandbox.Abstractions;

namespace Sandbox.Grains.Scheduling;

/// <summary>Chooses among the backends of one host.</summary>
internal static class BackendMatch
{
    private const string DefaultKind = "linux";

    /// <summary>The backend for a request, or why there is none; and whether that could change while the host stays as it is.</summary>
    public static (HostBackend? Backend, string Refusal, bool Hopeless) Choose(PlacementRequest request, HostReport host)
    {
        var named = host.Backends.Where(b => request.Backend is null || b.Name == request.Backend).ToList();
        if (named.Count == 0)
        {
            return (null, request.Backend is null ? "it has no isolation backend" : $"it has no backend '{request.Backend}'; it has: {string.Join(", ", host.Backends.Select(b => b.Name))}", host.Backends.Count > 0);
        }

        var kind = host.TemplateKinds.GetValueOrDefault(request.Template, DefaultKind);
        var startable = named.Where(b => b.ImageKind == kind).ToList();
        if (startable.Count == 0)
        {
            return (null, $"template '{request.Template}' is of kind '{kind}', which {string.Join(", ", named.Select(b => $"backend {b.Name}"))} cannot start", true);
        }

        var refusals = startable.ConvertAll(b => (Backend: b, Why: Refusal(request, b)));
        var fitting = refusals.Where(r => r.Why is null).Select(r => r.Backend).ToList();
        return fitting.Count == 0
            ? (null, string.Join(", ", refusals.Select(r => r.Why)), refusals.Exists(r => r.Backend.Usable) && refusals.TrueForAll(r => !r.Backend.Probing))
            : (Best(fitting), "", false);
    }

    /// <summary>All backends of a host that would do, in the operator's order.</summary>
    public static IEnumerable<HostBackend> Fitting(PlacementRequest request, HostReport host) =>
        host.Backends.Where(b => (request.Backend ?? b.Name) == b.Name && b.ImageKind == host.TemplateKinds.GetValueOrDefault(request.Template, DefaultKind) && Refusal(request, b) is null);

    /// <summary>The strongest boundary; of equal ones the one with hardware virtualisation; then as the operator listed them.</summary>
    public static HostBackend? Best(IEnumerable<HostBackend> fitting) => fitting.OrderByDescending(b => b.Boundary).ThenByDescending(b => b.Accelerator == "kvm").FirstOrDefault();

    private static string? Refusal(PlacementRequest request, HostBackend backend)
    {
        var needs = request.Needs;
        if (!backend.Usable)
        {
            return $"backend {backend.Name} is not usable ({backend.Reason})";
        }

        if (request.Untrusted && !backend.TakesUntrusted)
        {
            return $"backend {backend.Name} shares the host's kernel, and the session's code is untrusted";
        }

        if (needs.Boundary is { } least && backend.Boundary < least)
        {
            return $"backend {backend.Name} has the boundary {backend.Boundary}, and the session needs {least}";
        }

        if (needs.MemorySnapshot && !backend.MemorySnapshot)
        {
            return $"backend {backend.Name} saves no memory, and the session needs that";
        }

        if (needs.Network && !backend.Network)
        {
            return $"backend {backend.Name} has no network, and the session needs one";
        }

        if (needs.Devices.Count > 0 && !backend.Devices)
        {
            return $"backend {backend.Name} hands no devices to a session, and the session needs one";
        }

        return needs is { Devices.Count: > 0, MemorySnapshot: true } ? $"backend {backend.Name} cannot save the memory of a session that has devices, and the session needs both" : null;
    }
}
