using Sandbox.Isolation.TestSupport;

namespace Sandbox.Conformance.Attacks;

/// <summary>One thing that hostile code tries.</summary>
/// <param name="Name">What it is called in the document.</param>
/// <param name="Tries">What it tries, for whoever reads a failure.</param>
/// <param name="Contained">Given what came of it, how it was contained; an empty answer: it was not.</param>
internal sealed record Attack(string Name, string Tries, Func<Ran, string> Contained)
{
    /// <summary>As a command line, where the backend runs programs.</summary>
    public string? Shell { get; init; }

    /// <summary>As Python, where there are only contexts.</summary>
    public string? Python { get; init; }

    /// <summary>What it prints if it got something that is allowed only where a kernel of its own stands between it and the host.</summary>
    public string? OwnKernelOnly { get; init; }

    /// <summary>User of the command line.</summary>
    public string User { get; init; } = "user";

    /// <summary>After so long it is ended.</summary>
    public int Seconds { get; init; } = 20;

    /// <summary>It leaves a machine that the next attack could do nothing in.</summary>
    public bool Spoils { get; init; }
}
