using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;
using Sandbox.Gateway.Artifacts;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Executions;

/// <summary>Body of a start call: exactly one of argv, shell and code.</summary>
internal sealed record StartExecutionBody
{
    public IReadOnlyList<string>? Argv { get; init; }

    public string? Shell { get; init; }

    public string? Code { get; init; }

    public string? ContextId { get; init; }

    public string? Language { get; init; }

    public Dictionary<string, string>? Env { get; init; }

    public string? Cwd { get; init; }

    public string? User { get; init; }

    public TimeSpan? TimeoutSeconds { get; init; }

    public TimeSpan? GraceSeconds { get; init; }

    public PtyBody? Pty { get; init; }

    public bool? OpenStdin { get; init; }

    public long? OutputLimitBytes { get; init; }

    public bool? Artifacts { get; init; }

    public ExecutionRequest ToRequest() => new()
    {
        Argv = Argv is null || Argv.All(a => a is not null) ? Argv : throw SandboxException.Invalid("argv", "An argument is null."),
        Shell = Shell,
        Code = Code,
        ContextId = ContextId,
        Language = Language,
        Env = ApiJson.Texts("env", Env),
        Cwd = Cwd,
        User = User,
        Timeout = TimeoutSeconds,
        Grace = GraceSeconds,
        Pty = Pty?.ToSize(),
        OpenStdin = OpenStdin ?? false,
        OutputLimitBytes = OutputLimitBytes,
        Artifacts = Artifacts,
    };
}

/// <summary>Size of a terminal.</summary>
internal sealed record PtyBody
{
    public int? Columns { get; init; }

    public int? Rows { get; init; }

    public TerminalSize ToSize() => new(Columns ?? 80, Rows ?? 24);
}

/// <summary>A signal by name or number.</summary>
internal sealed record SignalBody
{
    private static readonly Dictionary<string, int> Names = new(StringComparer.OrdinalIgnoreCase)
    {
        ["HUP"] = 1,
        ["INT"] = 2,
        ["QUIT"] = 3,
        ["KILL"] = 9,
        ["USR1"] = 10,
        ["USR2"] = 12,
        ["PIPE"] = 13,
        ["ALRM"] = 14,
        ["TERM"] = 15,
        ["CONT"] = 18,
        ["STOP"] = 19,
        ["TSTP"] = 20,
        ["WINCH"] = 28,
    };

    public JsonElement? Signal { get; init; }

    /// <summary>Its number.</summary>
    public int Number => Parse(Signal);

    public static int Parse(JsonElement? signal) => signal switch
    {
        { ValueKind: JsonValueKind.Number } number when number.TryGetInt32(out var n) && n is >= 1 and <= 31 => n,
        { ValueKind: JsonValueKind.String } text when Names.TryGetValue(text.GetString()!.Replace("SIG", "", StringComparison.OrdinalIgnoreCase), out var n) => n,
        _ => throw SandboxException.Invalid("signal", $"'signal' must be a number from 1 to 31 or one of {string.Join(", ", Names.Keys)}."),
    };
}

/// <summary>Output events as JSON: text where the bytes are text, base64 where they are not, structured data in place.</summary>
internal static class OutputModel
{
    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    public static string NameOf(OutputKind kind) => JsonNamingPolicy.CamelCase.ConvertName(kind.ToString());

    public static JsonObject ToJson(OutputEvent output, SessionLinks links)
    {
        JsonObject json;
        if (output.Kind is OutputKind.Result or OutputKind.CodeError or OutputKind.Exit or OutputKind.Artifact)
        {
            json = JsonNode.Parse(output.Data)!.AsObject();
            json.Insert(0, "seq", output.Seq);
            json.Insert(1, "time", Time(output));
            if (output.Kind == OutputKind.Artifact && (string?)json["id"] is { } artifact)
            {
                json["url"] = links.PathTo(artifact);
            }
        }
        else
        {
            json = new JsonObject { ["seq"] = output.Seq, ["time"] = Time(output) };
            try
            {
                json["text"] = Strict.GetString(output.Data);
            }
            catch (DecoderFallbackException)
            {
                // A piece may end inside a character, or be no text at all.
                json["base64"] = Convert.ToBase64String(output.Data);
            }
        }

        return json;
    }

    private static string Time(OutputEvent output) => output.Time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture);
}
