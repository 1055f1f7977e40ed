using System.Globalization;
using System.Text.Json.Nodes;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Devices.Cdi;

namespace Sandbox.Isolation.Oci.Bundles;

/// <summary>The <c>config.json</c> of a container (OCI runtime specification 1.0).</summary>
internal static class ContainerConfig
{
    /// <summary>User and group id of the agent inside. Nothing else there has it: see <c>Platform/Container.cs</c> of the agent.</summary>
    public const int AgentUserId = 65530;

    private const int PeriodMicroseconds = 100_000;
    private const int MaxOpenFiles = 65536;

    /// <summary>
    /// What the agent may do inside, and nothing that it starts: become other users and end their programs; open, give away and label files for whom it works; take all of this from what it starts. All of it
    /// counts in the container's own user namespace only.
    /// </summary>
    private static readonly string[] AgentCapabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP"];

    /// <summary>What shows the host's hardware, its kernel's insides or other programs' traces, or has been a way out before.</summary>
    private static readonly string[] Masked =
    [
        "/proc/acpi", "/proc/asound", "/proc/bus", "/proc/config.gz", "/proc/fs", "/proc/interrupts", "/proc/irq", "/proc/kallsyms", "/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/kmsg",
        "/proc/kpagecgroup", "/proc/kpagecount", "/proc/kpageflags", "/proc/latency_stats", "/proc/modules", "/proc/sched_debug", "/proc/scsi", "/proc/slabinfo", "/proc/sysrq-trigger", "/proc/timer_list",
        "/proc/timer_stats", "/proc/vmallocinfo", "/sys/block", "/sys/bus", "/sys/class/dmi", "/sys/devices/virtual/dmi", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/kernel", "/sys/module",
        "/sys/power",
    ];

    private static readonly string[] ReadOnly = ["/proc/sys"];

    /// <summary>The whole file.</summary>
    /// <param name="spec">What the container is.</param>
    /// <param name="devices">Adds its devices.</param>
    /// <exception cref="DeviceException">A device is not there, or wants what is not allowed.</exception>
    public static string Write(ContainerSpec spec, CdiInjector devices)
    {
        string[] agent = ["/usr/lib/sandbox/agent", "--container", AgentUserId.ToString(CultureInfo.InvariantCulture)];
        if (spec.Gvisor)
        {
            // There an affinity binds nothing and only says how many processors there are; on the host's kernel the cgroup does that.
            agent = [.. agent, spec.Vcpus.ToString(CultureInfo.InvariantCulture)];
        }

        string[] capabilities = spec.Gvisor ? [.. AgentCapabilities, "CAP_SYS_ADMIN"] : AgentCapabilities;
        var config = new JsonObject
        {
            ["ociVersion"] = "1.0.2",
            ["hostname"] = spec.Hostname,
            ["root"] = new JsonObject { ["path"] = spec.Root, ["readonly"] = false },
            ["process"] = new JsonObject
            {
                ["terminal"] = false,
                ["cwd"] = "/",
                ["user"] = new JsonObject { ["uid"] = 0, ["gid"] = 0 },
                ["args"] = Texts(agent),
                ["env"] = Texts(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]),
                ["noNewPrivileges"] = true,
                ["capabilities"] = new JsonObject
                {
                    ["bounding"] = Texts(capabilities),
                    ["permitted"] = Texts(capabilities),
                    ["effective"] = Texts(capabilities),
                },
                ["rlimits"] = new JsonArray(Limit("RLIMIT_NOFILE", Math.Min(MaxOpenFiles, OwnOpenFiles.Value)), Limit("RLIMIT_CORE", 0)),
            },
            ["mounts"] = Mounts(spec),
            ["linux"] = Linux(spec),
        };
        devices.Apply(config, spec.Devices);
        return config.ToJsonString();
    }

    private static JsonObject Linux(ContainerSpec spec)
    {
        var linux = new JsonObject
        {
            ["cgroupsPath"] = spec.CgroupPath,
            ["uidMappings"] = new JsonArray(Mapping(spec)),
            ["gidMappings"] = new JsonArray(Mapping(spec)),
            ["namespaces"] = new JsonArray([.. ((string[])["pid", "network", "ipc", "uts", "mount", "user", "cgroup"]).Select(t => (JsonNode)new JsonObject { ["type"] = t })]),
            ["maskedPaths"] = Texts(Masked),
            ["readonlyPaths"] = Texts(ReadOnly),
            ["resources"] = Resources(spec),
        };
        if (!spec.Gvisor)
        {
            // gVisor filters its own calls, and the container's never reach the host.
            linux["seccomp"] = SeccompProfile.ToJson();
        }

        return linux;
    }

    private static JsonObject Resources(ContainerSpec spec)
    {
        var memory = new JsonObject { ["limit"] = spec.MemoryBytes };
        if (spec.SwapLimit)
        {
            memory["swap"] = spec.MemoryBytes;
        }

        var cpu = new JsonObject { ["quota"] = (long)(spec.CpuCores * PeriodMicroseconds), ["period"] = PeriodMicroseconds };
        if (spec.Processors.Length > 0)
        {
            cpu["cpus"] = spec.Processors;
        }

        var resources = new JsonObject
        {
            ["memory"] = memory,
            ["cpu"] = cpu,
            ["pids"] = new JsonObject { ["limit"] = spec.Pids },
            ["devices"] = new JsonArray(new JsonObject { ["allow"] = false, ["access"] = "rwm" }),
        };
        if (spec.IoWeight)
        {
            // Half of what the kernel gives to whoever has not been told: the server's own writes come first.
            resources["blockIO"] = new JsonObject { ["weight"] = 50 };
        }

        return resources;
    }

    private static JsonArray Mounts(ContainerSpec spec)
    {
        var mounts = new JsonArray(
            Mount("/proc", "proc", "nosuid", "noexec", "nodev"),
            Mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=64k"),
            Mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),

            // Nobody ends what lies there when memory runs out: it must not take all of it.
            Mount("/dev/shm", "tmpfs", "nosuid", "nodev", "mode=1777", $"size={spec.MemoryBytes / 2}"),
            Mount("/run", "tmpfs", "nosuid", "nodev", "mode=755", "size=16m"),
            Mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"));
        if (!spec.Gvisor)
        {
            // Read by the agent: whether the kernel has ended something of the container for want of memory.
            mounts.Add(Mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro"));
        }

        return mounts;
    }

    private static JsonObject Mount(string destination, string type, params string[] options) =>
        new() { ["destination"] = destination, ["type"] = type, ["source"] = type, ["options"] = Texts(options) };

    private static JsonObject Mapping(ContainerSpec spec) => new() { ["containerID"] = 0, ["hostID"] = spec.FirstUserId, ["size"] = Hosting.UserNamespaces.Size };

    private static JsonObject Limit(string type, long value) => new() { ["type"] = type, ["hard"] = value, ["soft"] = value };

    private static JsonArray Texts(IEnumerable<string> texts) => [.. texts.Select(t => (JsonNode)JsonValue.Create(t))];

    /// <summary>This program's own limit, which a runtime without CAP_SYS_RESOURCE cannot raise.</summary>
    private static readonly Lazy<long> OwnOpenFiles = new(() =>
    {
        var fields = File.ReadLines("/proc/self/limits").First(l => l.StartsWith("Max open files", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return long.TryParse(fields[4], NumberStyles.None, CultureInfo.InvariantCulture, out var hard) ? hard : MaxOpenFiles;
    });
}
