namespace Sandbox.Cli.Doctor;

/// <summary>How a check came out.</summary>
internal enum Verdict
{
    /// <summary>As it should be.</summary>
    Good,

    /// <summary>Sessions run, but an operator must know this.</summary>
    Warning,

    /// <summary>Sessions cannot run until this is mended.</summary>
    Bad,

    /// <summary>Just a fact.</summary>
    Fact,
}

/// <summary>One line of the diagnosis.</summary>
/// <param name="Area">What it is about.</param>
/// <param name="Name">What was looked at.</param>
/// <param name="Verdict">How it came out.</param>
/// <param name="Detail">What was found.</param>
/// <param name="Remedy">What to do, where something is to be done.</param>
internal sealed record Finding(string Area, string Name, Verdict Verdict, string Detail, string? Remedy = null);
