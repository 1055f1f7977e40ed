using System.Text.Json.Nodes;

namespace Sandbox.Bench.Serving;

/// <summary>What a host's QEMU backend writes down of its live machines: the way from a machine to its process.</summary>
internal sealed class RuntimeDirectory(string hostId)
{
    /// <summary>Where backends keep the directories of live machines.</summary>
    public static string Root { get; } = Environment.IsPrivilegedProcess ? "/run/sandbox" : Path.Combine(Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR") ?? "/tmp", "sandbox");

    private string Host => Path.Combine(Root, hostId);

    /// <summary>Every machine of this host with its session (empty for the pool's) and process.</summary>
    public IReadOnlyList<(string VmId, string SessionId, int Pid)> Machines()
    {
        var machines = new List<(string, string, int)>();
        foreach (var file in Directory.Exists(Host) ? Directory.EnumerateDirectories(Host, "vm-*").Select(d => Path.Combine(d, "owner.json")).Where(File.Exists) : [])
        {
            var record = JsonNode.Parse(File.ReadAllText(file));
            if (record?["Process"]?["Pid"]?.GetValue<int>() is { } pid && record["Owner"] is { } owner)
            {
                machines.Add((owner["VmId"]!.ToString(), owner["SessionId"]!.ToString(), pid));
            }
        }

        return machines;
    }

    /// <summary>Removes it. Not what is inside: a machine that was left behind must be noticed.</summary>
    public void RemoveIfEmpty()
    {
        if (Directory.Exists(Host) && !Directory.EnumerateFileSystemEntries(Host).Any())
        {
            Directory.Delete(Host);
        }
    }
}
