using System.Net;

namespace Sandbox.Grains;

/// <summary>How this host lets sessions reach the outside, whatever their policies.</summary>
public sealed record EgressOptions
{
    /// <summary>Name servers that our DNS asks. Empty: those of the machine.</summary>
    public IReadOnlyList<IPEndPoint> NameServers { get; init; } = [];

    /// <summary>File with certificates (PEM) that intercepted connections to the outside trust beside the machine's own; empty: none. For private registries.</summary>
    public string RootsFile { get; init; } = "";

    /// <summary>Ranges that count as public although they are not. For tests against servers on this machine: never where untrusted code runs.</summary>
    public IReadOnlyList<IPNetwork> AlsoPublic { get; init; } = [];

    /// <summary>Base address of an OpenAI-compatible API whose model judges requests that no rule settles, for example <c>https://api.example.com/v1</c>; empty: none.</summary>
    public string AuditorUrl { get; init; } = "";

    /// <summary>The model's name there.</summary>
    public string AuditorModel { get; init; } = "";

    /// <summary>File with the API's key; empty: none is sent.</summary>
    public string AuditorKeyFile { get; init; } = "";

    /// <summary>How long the model may take for one verdict. Default 10 s.</summary>
    public TimeSpan AuditorTimeout { get; init; } = TimeSpan.FromSeconds(10);
}
