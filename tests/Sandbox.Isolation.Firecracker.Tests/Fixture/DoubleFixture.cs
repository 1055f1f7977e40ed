using System.Text.Json;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests.Fixture;

/// <summary>A backend of its own, with doubles in place of Firecracker and its jailer, and an image that nothing has to be built for.</summary>
public sealed class DoubleFixture : IAsyncDisposable
{
    private readonly AgentBroker _broker;
    private int _next;

    public DoubleFixture()
    {
        // Every machine's user reaches the broker and the agents in it.
        Folder = Directory.CreateTempSubdirectory("fc-").FullName;
        File.SetUnixFileMode(Folder, (UnixFileMode)0b111_101_101);
        Image = FakeImage.Make(Path.Combine(Folder, "image"));
        Binary = Script("firecracker");
        Jailer = Script("jailer");
        _broker = new AgentBroker(Folder);
        Options = new FirecrackerOptions
        {
            HostId = "t" + Guid.NewGuid().ToString("N")[..8],
            Binary = Binary,
            Jailer = Jailer,
            KvmDevice = "/dev/null",
            RuntimeRoot = Path.Combine(Folder, "run"),
            CacheDirectory = Path.Combine(Folder, "cache"),
            ProbeImage = () => Image,
        };
        Backend = Make(Options);
    }

    public static TemplateSizes Sizes { get; } = new() { Vcpus = 1, MemoryMiB = 128, DiskMiB = 64 };

    public static bool IsRoot => Environment.IsPrivilegedProcess;

    public string Folder { get; }

    public string Image { get; }

    public string Binary { get; }

    public string Jailer { get; }

    public FirecrackerOptions Options { get; }

    public FirecrackerBackend Backend { get; }

    /// <summary>Where the records of live machines are.</summary>
    public string RunRoot => Path.Combine(Options.RuntimeRoot, Options.HostId + "-fc");

    /// <summary>Where their jails and memory files are.</summary>
    public string WorkRoot => Path.Combine(Options.CacheDirectory, "firecracker", Options.HostId);

    public FirecrackerBackend Make(FirecrackerOptions options) => new(options, NullLogger<FirecrackerBackend>.Instance);

    public MicroVmSpec Spec()
    {
        var id = $"vm{Interlocked.Increment(ref _next)}";
        return new MicroVmSpec
        {
            Owner = new MicroVmOwner(id, "ses_" + id, 1),
            ImageDirectory = Image,
            Vcpus = Sizes.Vcpus,
            MemoryMiB = Sizes.MemoryMiB,
            DiskMiB = Sizes.DiskMiB,
            DiskPath = Path.Combine(Folder, "disks", id + ".img"),
            Hostname = "test-" + id,
        };
    }

    /// <summary>What shall go wrong in doubles that are started from now on.</summary>
    public void Break(params string[] faults) => File.WriteAllLines(Path.Combine(Folder, "faults"), faults);

    /// <summary>What the doubles of a machine were asked, in order.</summary>
    public IReadOnlyList<JsonElement> LogOf(string vmId) =>
        File.Exists(Path.Combine(Folder, "log-" + vmId)) ? [.. File.ReadAllLines(Path.Combine(Folder, "log-" + vmId)).Select(l => JsonSerializer.Deserialize<JsonElement>(l))] : [];

    /// <summary>The same, as "METHOD /path".</summary>
    public IReadOnlyList<string> CallsOf(string vmId) =>
        [.. LogOf(vmId).Where(e => e.TryGetProperty("Method", out _)).Select(e => $"{e.GetProperty("Method").GetString()} {e.GetProperty("Path").GetString()}").Where(c => c != "GET /")];

    /// <summary>Nothing of any machine is left on this host: no record, no file, no cgroup, no process.</summary>
    public void RequireNothingLeft()
    {
        Assert.Empty(Directory.Exists(RunRoot) ? Directory.GetFileSystemEntries(RunRoot) : []);
        Assert.Empty(Directory.Exists(WorkRoot) ? Directory.GetFileSystemEntries(WorkRoot) : []);
        Assert.Empty(new Hosting.CgroupTree(Options.HostId + "-fc").List());
    }

    public async ValueTask DisposeAsync()
    {
        await _broker.DisposeAsync();
        HostGroups.Remove(Options.HostId);
        Directory.Delete(Folder, recursive: true);
    }

    private string Script(string role)
    {
        var path = Path.Combine(Folder, role);
        var program = typeof(DoubleFixture).Assembly.Location;
        File.WriteAllText(path, $"#!/bin/sh\nexport DOTNET_TieredPGO=0 DOTNET_EnableDiagnostics=0\nexec dotnet exec '{program}' --double {role} '{Folder}' \"$@\"\n");
        File.SetUnixFileMode(path, (UnixFileMode)0b111_101_101);
        return path;
    }
}
