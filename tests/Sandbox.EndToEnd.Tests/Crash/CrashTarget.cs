using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>What differs between backends: how the server is started, what sessions run, and where leftovers of machines would be.</summary>
internal abstract class CrashTarget : IAsyncDisposable
{
    protected CrashTarget() => Root = Directory.CreateTempSubdirectory("sandbox-crash-").FullName;

    public string Root { get; }

    public string DataDirectory => Path.Combine(Root, "data");

    public abstract int MostSessions { get; }

    public abstract int Workers { get; }

    /// <summary>How many checkpoints of each session are gone back to in the end.</summary>
    public virtual int CheckpointsTried => int.MaxValue;

    /// <summary>How long a session may take to leave a transitional state once a server is ready.</summary>
    public abstract TimeSpan Patience { get; }

    /// <summary>A file in a session that is written and read.</summary>
    public abstract string FilePath { get; }

    /// <summary>How long after the launch a server that is killed while it starts is killed, at most.</summary>
    public virtual TimeSpan LongestStart => TimeSpan.FromMilliseconds(1800);

    public abstract SandboxServer Prepare();

    /// <summary>When the next life ends.</summary>
    public abstract KillPlan Plan(Random random);

    public abstract JsonObject NewSession();

    public abstract JsonObject Set(int value);

    public abstract JsonObject Get();

    public abstract JsonObject Count(int lines, int milliseconds);

    /// <summary>Whether an execution of this title is one of <see cref="Count"/>.</summary>
    public abstract bool IsCount(string title);

    /// <summary>How far a program of <see cref="Count"/> counts, by its title.</summary>
    public abstract int LinesIn(string title);

    /// <summary>What <see cref="Get"/> has said: the value, or <see langword="null"/>.</summary>
    public abstract int? ValueIn(JsonNode output);

    /// <summary>Machines of sessions that live or have left something, by session.</summary>
    public abstract IEnumerable<(string Session, string What)> Machines(int serverId);

    /// <summary>What was written down as impossible, or <see langword="null"/>.</summary>
    public abstract string? Violations();

    public ValueTask DisposeAsync()
    {
        Directory.Delete(Root, recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>Records of owners in the directories of machines, but those of the warm pool's.</summary>
    protected static IEnumerable<(string Session, string What)> RecordsBelow(string directory)
    {
        foreach (var machine in Directory.Exists(directory) ? Directory.EnumerateDirectories(directory, "vm-*", SearchOption.AllDirectories) : [])
        {
            var session = "?";
            try
            {
                var record = JsonNode.Parse(File.ReadAllBytes(Path.Combine(machine, "owner.json")))!;
                session = (record["Owner"] ?? record)["SessionId"]?.ToString() ?? "?";
            }
            catch (Exception e) when (e is IOException or JsonException && !Directory.Exists(machine))
            {
                // Removed meanwhile.
                continue;
            }
            catch (Exception e) when (e is IOException or JsonException)
            {
                // Cut off, or just being made.
            }

            if (session.Length > 0)
            {
                yield return (session, "there is " + machine);
            }
        }
    }

    protected static int? Number(string? text) => int.TryParse(text?.Trim(), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : null;

    protected static string Stdout(JsonNode output) => string.Concat(output["events"]!.AsArray().Where(e => e!["kind"]!.ToString() == "stdout").Select(e => e!["text"]?.ToString()));
}
