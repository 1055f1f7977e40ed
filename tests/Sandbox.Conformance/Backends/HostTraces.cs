using System.Globalization;

namespace Sandbox.Conformance.Backends;

/// <summary>What a machine has left on the host: found by its host's and its own name, whatever backend it is of.</summary>
internal static class HostTraces
{
    private static readonly string[] Controllers = ["", "memory", "cpu", "pids", "freezer", "unified", "systemd"];

    public static IReadOnlyList<string> Of(string hostId, string vmId, string directory) =>
    [
        .. Cgroups(hostId, vmId).Select(c => "cgroup " + c),
        .. Directories(hostId, vmId).Select(d => "directory " + d),
        .. File.ReadLines("/proc/self/mounts").Where(m => m.Contains(hostId, StringComparison.Ordinal) && Names(m, vmId)).Select(m => "mount " + m.Split(' ')[1]),
        .. Processes(hostId, vmId, directory).Select(p => "process " + p),
    ];

    public static IEnumerable<string> Cgroups(string hostId, string vmId) =>
        Controllers.Select(c => Path.Combine("/sys/fs/cgroup", c, "sandbox", hostId, vmId)).Where(Directory.Exists);

    /// <summary>Process ids of a machine: those in its cgroups.</summary>
    public static IReadOnlyList<int> ProcessesOf(string hostId, string vmId) =>
        [.. Cgroups(hostId, vmId).SelectMany(ProcsBelow).Distinct()];

    private static IEnumerable<int> ProcsBelow(string cgroup) =>
        Directory.EnumerateFiles(cgroup, "cgroup.procs", SearchOption.AllDirectories).SelectMany(File.ReadAllLines).Select(l => int.Parse(l, CultureInfo.InvariantCulture));

    private static IEnumerable<string> Directories(string hostId, string vmId)
    {
        var root = Path.Combine("/run/sandbox", hostId);
        return Directory.Exists(root) ? Directory.EnumerateFileSystemEntries(root, "*", SearchOption.AllDirectories).Where(e => Path.GetFileName(e) is { } name && (name == vmId || name.EndsWith("-" + vmId, StringComparison.Ordinal))) : [];
    }

    private static IEnumerable<string> Processes(string hostId, string vmId, string directory)
    {
        foreach (var process in Directory.EnumerateDirectories("/proc").Where(d => char.IsAsciiDigit(Path.GetFileName(d)[0])))
        {
            string command;
            try
            {
                command = File.ReadAllText(Path.Combine(process, "cmdline")).Replace('\0', ' ');
            }
            catch (IOException)
            {
                continue;
            }

            if ((command.Contains(hostId, StringComparison.Ordinal) || command.Contains(directory, StringComparison.Ordinal)) && Names(command, vmId))
            {
                yield return $"{Path.GetFileName(process)} {command}";
            }
        }
    }

    /// <summary>Whether a text names a machine and not one whose number begins with its number.</summary>
    private static bool Names(string text, string vmId)
    {
        for (var at = text.IndexOf(vmId, StringComparison.Ordinal); at >= 0; at = text.IndexOf(vmId, at + 1, StringComparison.Ordinal))
        {
            if (at + vmId.Length == text.Length || !char.IsAsciiLetterOrDigit(text[at + vmId.Length]))
            {
                return true;
            }
        }

        return false;
    }
}
