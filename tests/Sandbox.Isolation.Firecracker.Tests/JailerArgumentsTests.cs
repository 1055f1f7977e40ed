using Sandbox.Isolation.Firecracker.Machine;
using Sandbox.Isolation.Hosting;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>The jailer's arguments, for both kinds of cgroups.</summary>
public sealed class JailerArgumentsTests
{
    private static readonly FirecrackerOptions Options = new() { HostId = "h", CacheDirectory = "/c", Binary = "/opt/firecracker" };
    private static readonly CgroupLimits Limits = new(1 << 20, 1.5, 66);

    [Fact]
    public void With_cgroups_of_version_2_the_group_is_the_one_that_this_program_made()
    {
        var arguments = Build(mount =>
        {
            File.WriteAllText(Path.Combine(mount, "cgroup.controllers"), "memory cpu pids");
        });

        Assert.Equal(
            [
                "--id", "vm", "--exec-file", "/opt/firecracker", "--uid", "310007", "--gid", "310007", "--chroot-base-dir", "/base", "--netns", "/proc/self/ns/net", "--resource-limit", "no-file=1024",
                "--cgroup-version", "2", "--parent-cgroup", "sandbox/h-fc", "--cgroup", "memory.max=1048576", "--cgroup", "cpu.max=150000 100000", "--cgroup", "pids.max=66", "--", "--api-sock", "api",
            ],
            arguments);
    }

    [Fact]
    public void With_cgroups_of_version_1_each_controller_has_its_own_files()
    {
        var arguments = Build(mount =>
        {
            foreach (var controller in (string[])["memory", "cpu", "pids"])
            {
                Directory.CreateDirectory(Path.Combine(mount, controller));
            }
        });

        Assert.Equal(
            ["--cgroup-version", "1", "--parent-cgroup", "sandbox/h-fc", "--cgroup", "memory.limit_in_bytes=1048576", "--cgroup", "cpu.cfs_period_us=100000", "--cgroup", "cpu.cfs_quota_us=150000", "--cgroup", "pids.max=66"],
            arguments.SkipWhile(a => a != "--cgroup-version").TakeWhile(a => a != "--"));
    }

    [Fact]
    public void Without_cgroups_none_are_named() => Assert.DoesNotContain(Build(_ => { }), a => a.StartsWith("--cgroup", StringComparison.Ordinal) || a == "--parent-cgroup");

    private static IReadOnlyList<string> Build(Action<string> mount)
    {
        var folder = Directory.CreateTempSubdirectory("cgroup-").FullName;
        try
        {
            mount(folder);
            return JailerArguments.Build(Options, "vm", 310_007, "/base", new CgroupTree("h-fc", folder), "sandbox/h-fc", Limits);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
