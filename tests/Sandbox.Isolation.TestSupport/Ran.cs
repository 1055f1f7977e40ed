using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.TestSupport;

/// <summary>What came of an execution.</summary>
public sealed class Ran
{
    public string Stdout { get; set; } = "";

    public string Stderr { get; set; } = "";

    public List<RichResult> Results { get; } = [];

    public CodeError? Error { get; set; }

    public Exited Exited { get; set; } = new();
}
