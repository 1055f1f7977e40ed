using System.Text.Json;
using System.Text.Json.Serialization;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Control;

/// <summary>Body of a create call.</summary>
internal sealed record CreateBody
{
    [JsonPropertyName("templateID")]
    public string? Template { get; init; }

    /// <summary>Seconds.</summary>
    public int? Timeout { get; init; }

    public bool? AutoPause { get; init; }

    public bool? AutoPauseMemory { get; init; }

    public AutoResumeBody? AutoResume { get; init; }

    [JsonPropertyName("allow_internet_access")]
    public bool? AllowInternetAccess { get; init; }

    public NetworkBody? Network { get; init; }

    public Dictionary<string, string>? Metadata { get; init; }

    public Dictionary<string, string>? EnvVars { get; init; }

    public JsonElement? Mcp { get; init; }

    public JsonElement? Iam { get; init; }

    public List<JsonElement>? VolumeMounts { get; init; }

    /// <summary>What is asked for and cannot be had is refused: a caller who thinks that it has it would be wrong later, and worse.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.Unsupported"/>.</exception>
    public void RefuseWhatIsNotThere()
    {
        Network?.RefuseWhatIsNotThere();
        Refuse(Is(Mcp), "mcp", "there is no MCP gateway in this server's templates");
        Refuse(Is(Iam), "iam", "identities for workloads are not offered");
        Refuse(VolumeMounts is { Count: > 0 }, "volumeMounts", "volumes are not offered");
        Refuse(AutoPauseMemory == false, "autoPauseMemory", "a pause here always keeps memory; leave keepMemory out");
    }

    internal static void Refuse(bool asked, string field, string why)
    {
        if (asked)
        {
            throw new SandboxException(SandboxErrorCode.Unsupported, $"'{field}' is refused: {why}.", field);
        }
    }

    private static bool Is(JsonElement? element) => element is { ValueKind: not (JsonValueKind.Null or JsonValueKind.Undefined) };
}

/// <summary>Whether a paused sandbox is woken by calls.</summary>
internal sealed record AutoResumeBody
{
    public bool Enabled { get; init; }
}

/// <summary>Rules for the network, see <see cref="NetworkRules"/>.</summary>
internal sealed record NetworkBody
{
    public bool? AllowPublicTraffic { get; init; }

    public List<string>? AllowOut { get; init; }

    public List<string>? DenyOut { get; init; }

    public JsonElement? Rules { get; init; }

    public JsonElement? EgressProxy { get; init; }

    public string? MaskRequestHost { get; init; }

    [JsonPropertyName("allow_internet_access")]
    public bool? AllowInternetAccess { get; init; }

    public void RefuseWhatIsNotThere()
    {
        CreateBody.Refuse(NetworkRules.HasTransforms(Rules), "network.rules", "headers are put in by secrets here: store one with PUT /v1/secrets/NAME and name it in the session's egress policy");
        CreateBody.Refuse(EgressProxy is { ValueKind: JsonValueKind.Object }, "network.egressProxy", "traffic leaves by this server's own proxy");
        CreateBody.Refuse(!string.IsNullOrEmpty(MaskRequestHost), "network.maskRequestHost", "the host name is passed on as it came");
    }
}

/// <summary>Body of the calls that give a sandbox time.</summary>
internal sealed record TimeoutBody
{
    /// <summary>Seconds.</summary>
    public int? Timeout { get; init; }

    /// <summary>Of a refresh: seconds.</summary>
    public int? Duration { get; init; }

    /// <summary>Of a connect: false restarts instead of resuming.</summary>
    public bool? Memory { get; init; }

    public bool? AutoPause { get; init; }
}

/// <summary>Body of a pause.</summary>
internal sealed record PauseBody
{
    public bool? Memory { get; init; }
}

/// <summary>Body of a fork.</summary>
internal sealed record ForkBody
{
    public int? Timeout { get; init; }

    public int? Count { get; init; }
}

/// <summary>Body of a snapshot.</summary>
internal sealed record SnapshotBody
{
    public string? Name { get; init; }
}
