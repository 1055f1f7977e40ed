using System.Text.Json;
using System.Text.RegularExpressions;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Hosting;

/// <summary>The directory of one live microVM: its sockets, and who it belongs to. What the reaper goes by after a crash.</summary>
public partial class VmDirectory
{
    /// <summary>Most bytes of a unix socket's path: the 108 of <c>sun_path</c> without the NUL.</summary>
    protected const int MaxSocketPath = 107;

    /// <summary>Names the directory; makes nothing.</summary>
    /// <param name="hostRoot">Where the directories of one host's microVMs are.</param>
    /// <param name="vmId">The microVM: <c>[a-z0-9-]{1,40}</c>.</param>
    /// <exception cref="IsolationException">That is no microVM id.</exception>
    public VmDirectory(string hostRoot, string vmId)
    {
        if (!VmId().IsMatch(vmId))
        {
            throw new IsolationException($"'{vmId}' is no microVM id; it must match [a-z0-9-]{{1,40}}.");
        }

        DirectoryPath = Path.Combine(hostRoot, "vm-" + vmId);
    }

    /// <summary>Where it is.</summary>
    public string DirectoryPath { get; }

    /// <summary>Name of the machine's network, once it has one.</summary>
    private string? _network;

    private string OwnerFile => Path.Combine(DirectoryPath, "owner.json");

    /// <summary>Makes the directory, readable by nobody else, and writes down its owner.</summary>
    /// <param name="owner">The owner.</param>
    /// <param name="network">Name of the machine's network, which goes with it.</param>
    /// <exception cref="IsolationException">There is one already.</exception>
    public void Create(MicroVmOwner owner, string? network = null)
    {
        ArgumentNullException.ThrowIfNull(owner);
        Directory.CreateDirectory(Path.GetDirectoryName(DirectoryPath)!);
        if (Directory.Exists(DirectoryPath))
        {
            throw new IsolationException($"There is a microVM '{owner.VmId}' already.");
        }

        Directory.CreateDirectory(DirectoryPath, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        _network = network;
        Save(new OwnerRecord(owner, null, network));
    }

    /// <summary>Adds the process.</summary>
    public void Complete(MicroVmOwner owner, ProcessIdentity? process) => Save(new OwnerRecord(owner, process, _network));

    /// <summary>Who it belongs to, or <see langword="null"/> where that cannot be read.</summary>
    public OwnerRecord? Load()
    {
        try
        {
            return JsonSerializer.Deserialize<OwnerRecord>(File.ReadAllBytes(OwnerFile));
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            return null;
        }
    }

    /// <summary>Removes it with all that is in it. None there is no error.</summary>
    public void Remove()
    {
        if (Directory.Exists(DirectoryPath))
        {
            Directory.Delete(DirectoryPath, recursive: true);
        }
    }

    /// <summary>Refuses a directory whose sockets could not be bound.</summary>
    /// <exception cref="IsolationException">The longest path does not fit a socket's address.</exception>
    protected static void RequireSocketPath(string longest, string hostRoot)
    {
        ArgumentNullException.ThrowIfNull(longest);
        if (longest.Length > MaxSocketPath)
        {
            throw new IsolationException($"The runtime directory {hostRoot} is too long: socket paths below it must fit {MaxSocketPath} bytes.");
        }
    }

    private void Save(OwnerRecord record)
    {
        File.WriteAllBytes(OwnerFile + ".partial", JsonSerializer.SerializeToUtf8Bytes(record));
        File.Move(OwnerFile + ".partial", OwnerFile, overwrite: true);
    }

    [GeneratedRegex(@"\A[a-z0-9-]{1,40}\z")]
    private static partial Regex VmId();
}

/// <summary>What <c>owner.json</c> holds.</summary>
/// <param name="Owner">The owner.</param>
/// <param name="Process">The process, once there is one.</param>
/// <param name="Network">Name of its network, or <see langword="null"/>.</param>
public sealed record OwnerRecord(MicroVmOwner Owner, ProcessIdentity? Process, string? Network = null);
