using Sandbox.Abstractions;

namespace Sandbox.E2b.Interpreter;

/// <summary>Languages by the names that E2B's SDKs give them.</summary>
internal static class Languages
{
    /// <summary>What code is in when nobody says.</summary>
    public const string Default = "python";

    /// <summary>Our name of a language; <see langword="null"/> where none was given.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.InvalidArgument"/>: there are no contexts of it.</exception>
    public static string? Of(string? name) => name?.ToLowerInvariant() switch
    {
        null or "" => null,
        "python" or "python3" => "python",
        "javascript" or "js" => "javascript",
        "bash" => "bash",
        _ => throw SandboxException.Invalid("language", $"Code in '{(name.Length > 32 ? name[..32] + "…" : name)}' is not run here: there are python, javascript and bash. Run its compiler as a command instead."),
    };
}
