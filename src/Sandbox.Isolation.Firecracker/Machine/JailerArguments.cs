using System.Globalization;
using Sandbox.Isolation.Hosting;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>The jailer's arguments for one machine. docs/firecracker.md says what each is for.</summary>
internal static class JailerArguments
{
    private const int CgroupPeriod = 100_000;

    /// <summary>Most descriptors: the API, the drives, the socket device with its connections, KVM's.</summary>
    private const int MaxDescriptors = 1024;

    /// <param name="options">Programs.</param>
    /// <param name="vmId">The machine.</param>
    /// <param name="userId">User and group that it runs as.</param>
    /// <param name="baseDirectory">Below it the jailer makes <c>program/id/root</c>.</param>
    /// <param name="cgroups">The tree in which the machine's group is; the jailer joins the very group that this program has made.</param>
    /// <param name="cgroupParent">Where the groups of this host are, from the root of the tree.</param>
    /// <param name="limits">Limits of the group.</param>
    public static IReadOnlyList<string> Build(
        FirecrackerOptions options, string vmId, uint userId, string baseDirectory, CgroupTree cgroups, string cgroupParent, CgroupLimits limits)
    {
        var id = userId.ToString(CultureInfo.InvariantCulture);
        List<string> arguments =
        [
            "--id", vmId,
            "--exec-file", options.Binary,
            "--uid", id,
            "--gid", id,
            "--chroot-base-dir", baseDirectory,

            // The empty one that the launcher has made: whatever the jailer does by default, it is not the host's.
            "--netns", "/proc/self/ns/net",
            "--resource-limit", string.Create(CultureInfo.InvariantCulture, $"no-file={MaxDescriptors}"),
        ];
        if (cgroups.Problem is null)
        {
            arguments.AddRange(["--cgroup-version", cgroups.Version.ToString(CultureInfo.InvariantCulture), "--parent-cgroup", cgroupParent]);
            foreach (var setting in Settings(cgroups.Version, limits))
            {
                arguments.AddRange(["--cgroup", setting]);
            }
        }

        // What follows goes to Firecracker; the jailer adds the id itself.
        return [.. arguments, "--", "--api-sock", MachineFiles.Api];
    }

    private static IEnumerable<string> Settings(int version, CgroupLimits limits)
    {
        var quota = (long)(limits.CpuCores * CgroupPeriod);
        string[] settings = version == 2
            ? [Setting("memory.max", limits.MemoryBytes), string.Create(CultureInfo.InvariantCulture, $"cpu.max={quota} {CgroupPeriod}"), Setting("pids.max", limits.Pids)]
            : [Setting("memory.limit_in_bytes", limits.MemoryBytes), Setting("cpu.cfs_period_us", CgroupPeriod), Setting("cpu.cfs_quota_us", quota), Setting("pids.max", limits.Pids)];
        return settings;
    }

    private static string Setting(string file, long value) => string.Create(CultureInfo.InvariantCulture, $"{file}={value}");
}
