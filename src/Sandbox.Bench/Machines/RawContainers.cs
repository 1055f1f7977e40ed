using System.Diagnostics;
using System.Text.Json.Nodes;
using Sandbox.Bench.Benches;

namespace Sandbox.Bench.Machines;

/// <summary>The same <c>echo</c> by the bare tools: <c>runc run</c>, <c>runc exec</c> and bubblewrap, on the image's root (bubblewrap: the host's), read-only. A container that lives stays until disposed.</summary>
/// <param name="rootImage">The image's root file system, an erofs.</param>
internal sealed class RawContainers(string rootImage) : IAsyncDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sandbox-bench-runc-").FullName;
    private readonly string _lasting = $"bench-{Environment.ProcessId}";
    private int _next;
    private bool _started;

    /// <summary>Whether a tool is there.</summary>
    public static bool Has(string tool) => ((string[])["/usr/bin", "/usr/sbin", "/bin", "/sbin"]).Any(d => File.Exists(Path.Combine(d, tool)));

    /// <summary>A new container for one <c>echo</c>.</summary>
    public async Task<TimeSpan> RunAsync(CancellationToken cancellationToken)
    {
        var bundle = await BundleAsync(["/bin/echo", "ok"], cancellationToken);
        return await TimeAsync("runc", ["--root", State, "run", "--bundle", bundle, $"{_lasting}-{Interlocked.Increment(ref _next)}"], cancellationToken);
    }

    /// <summary>One <c>echo</c> in a container that runs already.</summary>
    public async Task<TimeSpan> ExecAsync(CancellationToken cancellationToken)
    {
        if (!_started)
        {
            var bundle = await BundleAsync(["/bin/sleep", "infinity"], cancellationToken);

            // Detached, it would hold the pipes of whoever started it.
            await TimeAsync("sh", ["-c", "exec runc --root \"$0\" run --detach --bundle \"$1\" \"$2\" </dev/null >/dev/null 2>&1", State, bundle, _lasting], cancellationToken);
            _started = true;
        }

        return await TimeAsync("runc", ["--root", State, "exec", _lasting, "/bin/echo", "ok"], cancellationToken);
    }

    /// <summary>One <c>echo</c> in bubblewrap.</summary>
    public static Task<TimeSpan> BubblewrapAsync(CancellationToken cancellationToken) =>
        TimeAsync("bwrap", ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "/bin/echo", "ok"], cancellationToken);

    public async ValueTask DisposeAsync()
    {
        if (_started)
        {
            await TimeAsync("runc", ["--root", State, "delete", "--force", _lasting], CancellationToken.None);
        }

        if (Directory.Exists(Root))
        {
            await TimeAsync("umount", [Root], CancellationToken.None);
        }

        Directory.Delete(_directory, recursive: true);
    }

    private string Root => Path.Combine(_directory, "root");

    private string State => Path.Combine(_directory, "state");

    /// <summary>The specification that runc itself writes, for another program and root.</summary>
    private async Task<string> BundleAsync(string[] argv, CancellationToken cancellationToken)
    {
        var bundle = Path.Combine(_directory, "bundle-" + Path.GetFileName(argv[0]));
        if (Directory.Exists(bundle))
        {
            return bundle;
        }

        Directory.CreateDirectory(bundle);
        if (!Directory.Exists(Root))
        {
            Directory.CreateDirectory(Root);
            await TimeAsync("mount", ["-t", "erofs", "-o", "loop,ro", rootImage, Root], cancellationToken);
        }

        await TimeAsync("runc", ["spec", "--bundle", bundle], cancellationToken);
        var file = Path.Combine(bundle, "config.json");
        var config = JsonNode.Parse(await File.ReadAllTextAsync(file, cancellationToken))!;
        config["process"]!["terminal"] = false;
        config["process"]!["args"] = new JsonArray([.. argv.Select(a => (JsonNode?)a)]);

        // Of no use to an echo, and not to be had where cgroups are hybrid.
        config["mounts"] = new JsonArray([.. config["mounts"]!.AsArray().Where(m => m!["type"]!.ToString() != "cgroup").Select(m => m!.DeepClone())]);
        config["root"] = new JsonObject { ["path"] = Root, ["readonly"] = true };
        await File.WriteAllTextAsync(file, config.ToJsonString(), cancellationToken);
        return bundle;
    }

    private static async Task<TimeSpan> TimeAsync(string program, IReadOnlyList<string> arguments, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true })!;
        process.StandardInput.Close();
        var (said, complained) = (process.StandardOutput.ReadToEndAsync(cancellationToken), process.StandardError.ReadToEndAsync(cancellationToken));
        await process.WaitForExitAsync(cancellationToken);
        var took = Stopwatch.GetElapsedTime(began);
        await said;
        return process.ExitCode == 0
            ? took
            : throw new BenchException($"{program} {string.Join(' ', arguments)} ended with {process.ExitCode}: {(await complained).Trim()}");
    }
}
