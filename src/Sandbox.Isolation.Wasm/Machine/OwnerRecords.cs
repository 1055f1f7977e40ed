using System.Text.Json;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Wasm.Machine;

/// <summary>Who each machine of a host belongs to, on disk: what is left of them after a crash.</summary>
internal sealed class OwnerRecords(string directory)
{
    private const string Prefix = "vm-";

    /// <summary>Writes the record of a new machine.</summary>
    public void Write(MicroVmOwner owner)
    {
        var file = Path.Combine(DirectoryOf(owner.VmId), "owner.json");
        Directory.CreateDirectory(DirectoryOf(owner.VmId));
        File.WriteAllBytes(file + ".partial", JsonSerializer.SerializeToUtf8Bytes(owner));
        File.Move(file + ".partial", file, overwrite: true);
    }

    public void Remove(string vmId)
    {
        if (Directory.Exists(DirectoryOf(vmId)))
        {
            Directory.Delete(DirectoryOf(vmId), recursive: true);
        }
    }

    /// <summary>All that are there. One whose record a crash cut off has no session.</summary>
    public IReadOnlyList<MicroVmOwner> List() => Directory.Exists(directory)
        ? [.. Directory.EnumerateDirectories(directory, Prefix + "*").Select(d => Load(d) ?? new MicroVmOwner(Path.GetFileName(d)[Prefix.Length..], "", 0))]
        : [];

    private static MicroVmOwner? Load(string directory)
    {
        try
        {
            return JsonSerializer.Deserialize<MicroVmOwner>(File.ReadAllBytes(Path.Combine(directory, "owner.json")));
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            return null;
        }
    }

    private string DirectoryOf(string vmId) => Path.Combine(directory, Prefix + vmId);
}
