namespace Sandbox.Templates;

/// <summary>Programs of the host that building an image needs, and the Debian package that brings each.</summary>
public static class HostTools
{
    /// <summary>Program to package.</summary>
    public static IReadOnlyDictionary<string, string> Packages { get; } = new Dictionary<string, string>(StringComparer.Ordinal)
    {
        ["mmdebstrap"] = "mmdebstrap",
        ["mkfs.erofs"] = "erofs-utils",
        ["cpio"] = "cpio",
        ["busybox"] = "busybox-static",
        ["dpkg-deb"] = "dpkg",
        ["apt-get"] = "apt",
    };

    /// <summary>Programs that are not on PATH here.</summary>
    public static IReadOnlyList<string> Missing() => [.. Packages.Keys.Where(t => Find(t) is null)];

    /// <summary>Where a program is, or <see langword="null"/>.</summary>
    public static string? Find(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Concat(["/usr/sbin", "/sbin"])
            .Where(d => d.Length > 0)
            .Select(d => Path.Combine(d, program))
            .FirstOrDefault(File.Exists);

    /// <summary>What to do about a missing program.</summary>
    public static string HintFor(string program) => Packages.TryGetValue(program, out var package) ? $"Install it with: apt-get install {package}" : "";
}
