namespace Sandbox.E2b;

/// <summary>How the E2B-compatible facade behaves.</summary>
public sealed record E2bOptions
{
    /// <summary>
    /// Domain whose names <c>{port}-{sandbox}.domain</c> lead here (a wildcard DNS record, and a wildcard certificate for TLS); empty: sandboxes are named by header only, and signed
    /// addresses of files, which carry no header, do not work.
    /// </summary>
    public string Domain { get; init; } = "";

    /// <summary>Templates by the names that E2B users write. A name not in it is a template of ours, or a snapshot.</summary>
    public IReadOnlyDictionary<string, string> Templates { get; init; } = new Dictionary<string, string>(StringComparer.Ordinal)
    {
        ["base"] = "python",
        ["code-interpreter-v1"] = "python",
    };
}
