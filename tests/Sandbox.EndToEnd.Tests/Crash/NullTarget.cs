using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>The null backend: machines that start in no time, and that write down when two of one session live at once.</summary>
internal class NullTarget : CrashTarget
{
    public override int MostSessions => 10;

    public override int Workers => 5;

    public override TimeSpan Patience => TimeSpan.FromSeconds(60);

    public override string FilePath => "/f";

    private string Live => Path.Combine(Root, "live");

    public override SandboxServer Prepare()
    {
        var config = Path.Combine(Root, "server.json");
        File.WriteAllText(config, Settings().ToJsonString());
        return SandboxServer.Prepare(DataDirectory, "--config", config);
    }

    public override KillPlan Plan(Random random) => new(random, operations: 8, shortly: 80, longest: 4000);

    public override JsonObject NewSession() => new() { ["template"] = "null", ["untrusted"] = false, ["idleTimeoutSeconds"] = 3600 };

    public override JsonObject Set(int value) => Run("set", "v", value.ToString(CultureInfo.InvariantCulture));

    public override JsonObject Get() => Run("get", "v");

    public override JsonObject Count(int lines, int milliseconds) => Run("tick", lines.ToString(CultureInfo.InvariantCulture), milliseconds.ToString(CultureInfo.InvariantCulture));

    public override bool IsCount(string title) => title.StartsWith("tick ", StringComparison.Ordinal);

    public override int LinesIn(string title) => int.Parse(title.Split(' ')[1], CultureInfo.InvariantCulture);

    public override int? ValueIn(JsonNode output) => Number(Stdout(output));

    /// <summary>Open files that stand for living machines, and records of owners: of a session, not of the warm pool.</summary>
    public override IEnumerable<(string Session, string What)> Machines(int serverId)
    {
        foreach (var file in Directory.EnumerateFiles($"/proc/{serverId}/fd").Select(TargetOf))
        {
            if (file.StartsWith(Live + "/", StringComparison.Ordinal) && file.EndsWith(".live", StringComparison.Ordinal))
            {
                yield return (Path.GetFileNameWithoutExtension(file), "its machine lives");
            }
        }

        foreach (var record in RecordsBelow(Path.Combine(Live, "machines")))
        {
            yield return record;
        }
    }

    public override string? Violations()
    {
        var file = Path.Combine(Live, "violations.log");
        return File.Exists(file) ? File.ReadAllText(file) : null;
    }

    /// <summary>How the next server is configured.</summary>
    protected virtual JsonObject Settings() => new()
    {
        ["nullBackend"] = true,
        ["backends"] = "",
        ["nullLiveDirectory"] = Live,
        ["imageRoot"] = Path.Combine(Root, "images"),
        ["maxMicroVms"] = 200,
        ["memoryMiB"] = 1_000_000,
        ["warmPool"] = 1,
    };

    private static string TargetOf(string link)
    {
        try
        {
            return File.ResolveLinkTarget(link, returnFinalTarget: false)?.FullName ?? "";
        }
        catch (IOException)
        {
            // Closed meanwhile.
            return "";
        }
    }

    private static JsonObject Run(params string[] words) => new() { ["argv"] = JsonSerializer.SerializeToNode(words) };
}
