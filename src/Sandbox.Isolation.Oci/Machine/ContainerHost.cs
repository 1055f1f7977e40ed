using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Hosting;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.Oci.Hosting;
using Sandbox.Isolation.Oci.Runtimes;

namespace Sandbox.Isolation.Oci.Machine;

/// <summary>What all containers of a backend share.</summary>
/// <param name="Name">The backend.</param>
/// <param name="Runtime">The runtime that starts them.</param>
/// <param name="HostRoot">Where their directories are.</param>
/// <param name="Checkpoints">Where their checkpoints are while they are written or read: on a disk, for they have the size of a memory.</param>
/// <param name="Cgroups">Their cgroups.</param>
/// <param name="Ids">Their ranges of ids.</param>
/// <param name="Namespaces">The user namespaces of those.</param>
/// <param name="Processors">The host's processors.</param>
/// <param name="Roots">The images.</param>
/// <param name="CdiDirectories">Where descriptions of devices are.</param>
/// <param name="Networks">Their networks, or <see langword="null"/> where they have none.</param>
/// <param name="Logger">Where faults are told.</param>
internal sealed record ContainerHost(
    string Name,
    ContainerRuntime Runtime, string HostRoot, string Checkpoints, ContainerCgroups Cgroups, UserIds Ids, UserNamespaces Namespaces, Processors Processors, ImageRoots Roots, IReadOnlyList<string> CdiDirectories, GuestNetworkPool? Networks, ILogger Logger);
