namespace Sandbox.E2b.Envd.Files;

/// <summary>Paths as callers write them.</summary>
internal static class GuestPath
{
    private const string Home = "~";

    /// <summary>
    /// Without what means nothing (<c>./</c>, doubled slashes), so that the paths in answers are as plain as E2B's. <c>..</c> stays: where it leads depends on links that only the guest knows.
    /// An empty path stays empty, and is refused by the session.
    /// </summary>
    public static string Plain(string path)
    {
        if (path.Length == 0)
        {
            return path;
        }

        var parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries).Where(p => p != ".");
        var joined = string.Join('/', parts);
        return path[0] == '/' ? "/" + joined : joined.Length == 0 ? Home : joined;
    }
}
