using System.Text.Json;
using System.Text.Json.Serialization;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Null.Machine;

/// <summary>Who each machine of a host belongs to, on disk: what is left of them after a crash. Does nothing where there is no root for it.</summary>
internal sealed class OwnerRecords(string? root, string hostId)
{
    private readonly string? _directory = root is null ? null : Path.Combine(root, hostId);

    /// <summary>Writes the record, or replaces it.</summary>
    public void Write(MicroVmOwner owner)
    {
        if (_directory is null)
        {
            return;
        }

        var file = Path.Combine(DirectoryOf(owner.VmId), "owner.json");
        Directory.CreateDirectory(DirectoryOf(owner.VmId));
        File.WriteAllBytes(file + ".partial", JsonSerializer.SerializeToUtf8Bytes(owner, OwnerJson.Default.MicroVmOwner));
        File.Move(file + ".partial", file, overwrite: true);
    }

    public void Remove(string vmId)
    {
        if (_directory is not null && Directory.Exists(DirectoryOf(vmId)))
        {
            Directory.Delete(DirectoryOf(vmId), recursive: true);
        }
    }

    /// <summary>All that are there. One whose record a crash cut off has no session.</summary>
    public IReadOnlyList<MicroVmOwner> List() => Directory.Exists(_directory)
        ? [.. Directory.EnumerateDirectories(_directory, "vm-*").Select(d => Load(d) ?? new MicroVmOwner(Path.GetFileName(d)["vm-".Length..], "", 0))]
        : [];

    private static MicroVmOwner? Load(string directory)
    {
        try
        {
            return JsonSerializer.Deserialize(File.ReadAllBytes(Path.Combine(directory, "owner.json")), OwnerJson.Default.MicroVmOwner);
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            return null;
        }
    }

    private string DirectoryOf(string vmId) => Path.Combine(_directory!, "vm-" + vmId);
}

/// <summary>Two machines of one session at once.</summary>
internal sealed record LiveViolation(DateTimeOffset At, MicroVmOwner Owner, int ProcessId);

[JsonSerializable(typeof(MicroVmOwner))]
[JsonSerializable(typeof(LiveViolation))]
internal sealed partial class OwnerJson : JsonSerializerContext;
