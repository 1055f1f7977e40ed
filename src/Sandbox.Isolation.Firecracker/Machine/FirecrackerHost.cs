using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>What all machines of one host share.</summary>
/// <param name="Options">How this host runs Firecracker.</param>
/// <param name="Version">The program's.</param>
/// <param name="HostRoot">Where the records of live machines are.</param>
/// <param name="WorkRoot">Where their jails and memory files are.</param>
/// <param name="Cgroups">Where their limits are.</param>
/// <param name="CgroupParent">The same as a path from the root of the tree, for the jailer.</param>
/// <param name="Users">User ids for machines in jails; <see langword="null"/> where there are none.</param>
/// <param name="KnowsHoles">A differential snapshot can be told from a full one; see <see cref="Memory.HoleProbe"/>.</param>
internal sealed record FirecrackerHost(
    FirecrackerOptions Options, FirecrackerVersion Version, string HostRoot, string WorkRoot, CgroupTree Cgroups, string CgroupParent, UserIds? Users, bool KnowsHoles)
{
    public FirecrackerDirectory DirectoryOf(string vmId) => new(HostRoot, WorkRoot, vmId, Path.GetFileName(Options.Binary));
}
