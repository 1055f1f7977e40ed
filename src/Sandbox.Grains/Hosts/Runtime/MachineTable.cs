using System.Diagnostics.CodeAnalysis;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>The live microVMs of a host, by their id and by their session: both are asked for at every start, and a host may have thousands. Guarded by its owner's lock.</summary>
internal sealed class MachineTable
{
    private readonly Dictionary<string, LiveMicroVm> _byId = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<LiveMicroVm>> _bySession = new(StringComparer.Ordinal);

    public int Count => _byId.Count;

    public IReadOnlyCollection<LiveMicroVm> All => _byId.Values;

    public bool TryGet(string vmId, [NotNullWhen(true)] out LiveMicroVm? machine) => _byId.TryGetValue(vmId, out machine);

    public bool Contains(string vmId) => _byId.ContainsKey(vmId);

    /// <summary>All of a session, as they are now: usually one, and an older one while it is being replaced.</summary>
    public IReadOnlyList<LiveMicroVm> Of(string sessionId) => _bySession.TryGetValue(sessionId, out var machines) ? [.. machines] : [];

    public void Add(LiveMicroVm machine)
    {
        _byId.Add(machine.VmId, machine);
        if (!_bySession.TryGetValue(machine.SessionId, out var machines))
        {
            _bySession.Add(machine.SessionId, machines = []);
        }

        machines.Add(machine);
    }

    public void Remove(LiveMicroVm machine)
    {
        _byId.Remove(machine.VmId);
        if (_bySession.TryGetValue(machine.SessionId, out var machines) && machines.Remove(machine) && machines.Count == 0)
        {
            _bySession.Remove(machine.SessionId);
        }
    }
}
