using System.Text.Json;
using System.Text.RegularExpressions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>The directory of one live microVM: its sockets, and who it belongs to. What the reaper goes by after a crash.</summary>
internal sealed partial class VmDirectory
{
    private const int MaxSocketPath = 107;

    public VmDirectory(string hostRoot, string vmId)
    {
        if (!VmId().IsMatch(vmId))
        {
            throw new IsolationException($"'{vmId}' is no microVM id; it must match [a-z0-9-]{{1,40}}.");
        }

        DirectoryPath = Path.Combine(hostRoot, "vm-" + vmId);
        if (Agent.Length > MaxSocketPath)
        {
            throw new IsolationException($"The runtime directory {hostRoot} is too long: socket paths below it must fit {MaxSocketPath} bytes.");
        }
    }

    public string DirectoryPath { get; }

    public string Qmp => Path.Combine(DirectoryPath, "qmp");

    public string Agent => Path.Combine(DirectoryPath, "agent");

    /// <summary>Where the state of devices goes in or out.</summary>
    public string Migration => Path.Combine(DirectoryPath, "state");

    private string OwnerFile => Path.Combine(DirectoryPath, "owner.json");

    /// <summary>Makes the directory, readable by nobody else, and writes down its owner.</summary>
    public void Create(MicroVmOwner owner)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(DirectoryPath)!);
        if (Directory.Exists(DirectoryPath))
        {
            throw new IsolationException($"There is a microVM '{owner.VmId}' already.");
        }

        Directory.CreateDirectory(DirectoryPath, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        Save(new OwnerRecord(owner, null));
    }

    /// <summary>Adds the process.</summary>
    public void Complete(MicroVmOwner owner, ProcessIdentity? process) => Save(new OwnerRecord(owner, process));

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

    public void Remove()
    {
        if (Directory.Exists(DirectoryPath))
        {
            Directory.Delete(DirectoryPath, recursive: true);
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

/// <summary>What owner.json holds.</summary>
internal sealed record OwnerRecord(MicroVmOwner Owner, ProcessIdentity? Process);
