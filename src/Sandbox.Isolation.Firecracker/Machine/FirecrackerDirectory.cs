using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>
/// The directories of one live machine. Its record is in the runtime directory, with a link to the machine's root: the link makes socket paths short. The root itself is where the jailer wants it, in the
/// cache: the runtime directory is usually mounted <c>nodev</c>, and files of the size of the guest's memory do not belong into a tmpfs.
/// </summary>
internal sealed class FirecrackerDirectory : VmDirectory
{
    private readonly string _program;
    private readonly string _vmId;

    /// <param name="hostRoot">Records of this host.</param>
    /// <param name="workRoot">Jails and memory files of this host.</param>
    /// <param name="vmId">The machine.</param>
    /// <param name="program">Name of the program that is jailed; a part of the jailer's path.</param>
    public FirecrackerDirectory(string hostRoot, string workRoot, string vmId, string program)
        : base(hostRoot, vmId)
    {
        (WorkPath, _vmId, _program) = (Path.Combine(workRoot, vmId), vmId, program);
        RequireSocketPath(InRoot(MachineFiles.Pager), hostRoot);
    }

    /// <summary>What only the host touches: the jailer's base, and memory that the machine maps.</summary>
    public string WorkPath { get; }

    /// <summary>The machine's root: <c>base/program/id/root</c>, as the jailer names it.</summary>
    public string RootPath => Path.Combine(WorkPath, _program, _vmId, "root");

    public string Api => InRoot(MachineFiles.Api);

    public string Vsock => InRoot(MachineFiles.Vsock);

    /// <summary>A short path of something in the root.</summary>
    public string InRoot(string name) => Path.Combine(DirectoryPath, "root", name);

    /// <summary>Makes the root and the link to it. The record must be written already.</summary>
    public void CreateRoot()
    {
        const UnixFileMode Own = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

        // Memory files beside are readable by every user that gets this far.
        Directory.CreateDirectory(Path.GetDirectoryName(WorkPath)!, Own);
        Directory.CreateDirectory(RootPath, Own);
        Directory.CreateSymbolicLink(Path.Combine(DirectoryPath, "root"), RootPath);
    }

    /// <summary>Removes all of it; the record last, so that the reaper tries again what could not be removed.</summary>
    public void RemoveAll()
    {
        if (Directory.Exists(WorkPath))
        {
            Directory.Delete(WorkPath, recursive: true);
        }

        Remove();
    }
}
