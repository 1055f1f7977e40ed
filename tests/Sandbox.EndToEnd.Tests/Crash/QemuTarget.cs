using System.Globalization;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Sandbox.EndToEnd.Tests.Harness;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>Real machines: processes, control groups, directories of sockets.</summary>
internal sealed partial class QemuTarget : CrashTarget
{
    public override int MostSessions => 3;

    public override int Workers => 2;

    public override int CheckpointsTried => 1;

    /// <summary>Under emulation on a small machine a boot takes many seconds.</summary>
    public override TimeSpan Patience => TimeSpan.FromMinutes(3);

    public override TimeSpan LongestStart => TimeSpan.FromSeconds(6);

    public override string FilePath => "f";

    private string HostId => File.ReadAllText(Path.Combine(DataDirectory, "host-id")).Trim();

    private string Runtime => Path.Combine(
        Environment.IsPrivilegedProcess ? "/run/sandbox" : Path.Combine(Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR") ?? "/tmp", "sandbox"), HostId);

    public override SandboxServer Prepare() => SandboxServer.Prepare(DataDirectory, "--warm-pool", "0");

    public override KillPlan Plan(Random random) => new(random, operations: 5, shortly: 800, longest: 20_000);

    public override JsonObject NewSession() => new() { ["idleTimeoutSeconds"] = 3600 };

    public override JsonObject Set(int value) => Code(string.Create(CultureInfo.InvariantCulture, $"v = {value}"));

    public override JsonObject Get() => Code("print(v)");

    public override JsonObject Count(int lines, int milliseconds) =>
        new() { ["shell"] = string.Create(CultureInfo.InvariantCulture, $"for i in $(seq {lines}); do echo $i; sleep 0.{milliseconds:000}; done") };

    public override bool IsCount(string title) => title.StartsWith("for i in", StringComparison.Ordinal);

    public override int LinesIn(string title) => int.Parse(Lines().Match(title).Groups[1].Value, CultureInfo.InvariantCulture);

    public override int? ValueIn(JsonNode output) => Number(Stdout(output));

    public override IEnumerable<(string Session, string What)> Machines(int serverId)
    {
        foreach (var record in RecordsBelow(Runtime))
        {
            yield return record;
        }

        // What has no directory any more has no owner: nobody would ever look for it again.
        foreach (var group in Directory.EnumerateDirectories("/sys/fs/cgroup").Append("/sys/fs/cgroup").Select(c => Path.Combine(c, "sandbox", HostId)).Where(Directory.Exists).SelectMany(Directory.EnumerateDirectories))
        {
            if (!Directory.Exists(Path.Combine(Runtime, "vm-" + Path.GetFileName(group))))
            {
                yield return ("?", "there is the control group " + group);
            }
        }

        // A network is named after the process that made it.
        var networks = Path.Combine(Runtime, "net");
        foreach (var network in Directory.Exists(networks) ? Directory.EnumerateFileSystemEntries(networks) : [])
        {
            if (Path.GetFileName(network).Split('-')[0] is var maker && int.TryParse(maker, out var made) && made != serverId)
            {
                yield return ("?", $"there is the network {network} of process {maker}, and the server is {serverId}");
            }
        }

        foreach (var process in Directory.EnumerateDirectories("/proc").Where(p => int.TryParse(Path.GetFileName(p), out _)))
        {
            if (CommandOf(process) is var command && command.Contains("qemu-system", StringComparison.Ordinal) && Machine(command) is { Success: true } machine && !Directory.Exists(machine.Value))
            {
                yield return ("?", $"process {Path.GetFileName(process)} runs: {command}");
            }
        }
    }

    public override string? Violations() => null;

    private static string CommandOf(string process)
    {
        try
        {
            return File.ReadAllText(Path.Combine(process, "cmdline")).Replace('\0', ' ');
        }
        catch (IOException)
        {
            return "";
        }
    }

    private Match Machine(string command) => Regex.Match(command, Regex.Escape(Runtime) + "/vm-[a-z0-9-]+");

    private static JsonObject Code(string code) => new() { ["code"] = code, ["language"] = "python" };

    [GeneratedRegex(@"seq (\d+)")]
    private static partial Regex Lines();
}
