using Sandbox.Abstractions;

namespace Sandbox.E2b;

/// <summary>
/// E2B's sandbox ids are part of host names, where an underscore is not allowed: ours without their prefix.
/// </summary>
internal static class E2bIds
{
    private const string SessionPrefix = "ses_";

    /// <summary>The sandbox id of a session.</summary>
    public static string ToSandbox(string sessionId) => sessionId[SessionPrefix.Length..];

    /// <summary>The session of a sandbox id, also as older SDKs write it (<c>id-client</c>); <see langword="null"/> where it has not the form of one.</summary>
    public static string? ToSession(string? sandboxId)
    {
        var id = SessionPrefix + sandboxId?.Split('-')[0];
        return SandboxIds.IsSession(id) ? id : null;
    }
}
