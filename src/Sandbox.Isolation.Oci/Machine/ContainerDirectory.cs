using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Oci.Machine;

/// <summary>The directory of one live container: its bundle, what its runtime keeps, and the places where its root is mounted (in its own mount namespace: the host sees them empty).</summary>
internal sealed class ContainerDirectory(string hostRoot, string vmId) : VmDirectory(hostRoot, vmId)
{
    public string Bundle => Path.Combine(DirectoryPath, "bundle");

    /// <summary>What the runtime itself writes down of its container: in a directory of its own for each, so that it goes with the rest.</summary>
    public string State => Path.Combine(DirectoryPath, "state");

    public string PidFile => Path.Combine(DirectoryPath, "pid");

    /// <summary>Makes it and what belongs into it. The container's root, a nobody on the host, must be able to pass through to its root directory.</summary>
    public void Prepare(MicroVmOwner owner, string? network)
    {
        Create(owner, network);
        LetPass(Path.GetDirectoryName(DirectoryPath)!);
        LetPass(Path.GetDirectoryName(Path.GetDirectoryName(DirectoryPath)!)!);
        File.SetUnixFileMode(DirectoryPath, (UnixFileMode)0b111_001_001);
        Directory.CreateDirectory(Bundle, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        Directory.CreateDirectory(State, (UnixFileMode)0b111_001_001);
    }

    /// <summary>Whatever the umask of the server has made of it. What lies there keeps its own permissions.</summary>
    private static void LetPass(string directory)
    {
        var mode = File.GetUnixFileMode(directory);
        if (!mode.HasFlag(UnixFileMode.OtherExecute))
        {
            File.SetUnixFileMode(directory, mode | UnixFileMode.OtherExecute);
        }
    }
}
