namespace Sandbox.Isolation.Firecracker.Tests.Fixture;

/// <summary>The cgroups that a backend makes for its host. Those of its machines must be gone by themselves: a group that still has one cannot be removed, and that is a failure.</summary>
internal static class HostGroups
{
    public static void Remove(string hostId)
    {
        foreach (var root in (string[])["/sys/fs/cgroup/sandbox", .. new[] { "memory", "cpu", "pids" }.Select(c => $"/sys/fs/cgroup/{c}/sandbox")])
        {
            var group = Path.Combine(root, hostId + "-fc");
            if (Directory.Exists(group))
            {
                Directory.Delete(group);
            }
        }
    }
}
