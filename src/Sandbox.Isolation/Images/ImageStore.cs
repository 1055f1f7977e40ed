using System.Text.RegularExpressions;

namespace Sandbox.Isolation.Images;

/// <summary>
/// Where a host keeps built template images: <c>&lt;root&gt;/&lt;template&gt;/&lt;version&gt;/</c>, with the version in use named by the file
/// <c>&lt;root&gt;/&lt;template&gt;/current</c>. Readers need no lock: versions are immutable and <c>current</c> is replaced atomically.
/// </summary>
public sealed partial class ImageStore(string root)
{
    /// <summary>Where images live unless told otherwise; world-readable, because an unprivileged VMM reads them.</summary>
    public const string DefaultRoot = "/var/cache/sandbox/images";

    /// <summary>The store's root directory.</summary>
    public string Root { get; } = root;

    /// <summary>Templates that have a finished current version, in order.</summary>
    public IReadOnlyList<string> Templates =>
        Directory.Exists(Root)
            ? [.. Directory.EnumerateDirectories(Root).Select(d => Path.GetFileName(d)!).Where(t => FindCurrent(t) is not null).Order(StringComparer.Ordinal)]
            : [];

    /// <summary>Whether a name may name a template: <c>[a-z][a-z0-9-]{0,39}</c>. Checked before it becomes part of a path.</summary>
    public static bool IsTemplateName(string name) => TemplateName().IsMatch(name);

    /// <summary>Directory of one version.</summary>
    public string VersionDirectory(string template, string version) => Path.Combine(Root, Checked(template), version);

    /// <summary>Directory of the current finished version, or <see langword="null"/>.</summary>
    public string? FindCurrent(string template)
    {
        var pointer = Path.Combine(Root, Checked(template), "current");
        if (!File.Exists(pointer))
        {
            return null;
        }

        var version = File.ReadAllText(pointer).Trim();
        if (!VersionName().IsMatch(version))
        {
            return null;
        }

        var directory = VersionDirectory(template, version);
        return File.Exists(Path.Combine(directory, TemplateImage.FileName)) ? directory : null;
    }

    /// <summary>Directory of some finished image that a machine can be booted from, to try that out; <see langword="null"/> where there is none.</summary>
    public string? FindBootable() => Templates.Select(FindCurrent).OfType<string>().FirstOrDefault(d => TemplateImage.Load(d).Kind == TemplateImage.LinuxKind);

    /// <summary>Makes a finished version the current one.</summary>
    public void SetCurrent(string template, string version)
    {
        var pointer = Path.Combine(Root, Checked(template), "current");
        File.WriteAllText(pointer + ".partial", version + "\n");
        File.Move(pointer + ".partial", pointer, overwrite: true);
    }

    private static string Checked(string template) =>
        IsTemplateName(template) ? template : throw new ArgumentException($"'{template}' is not a template name.", nameof(template));

    [GeneratedRegex(@"\A[a-z][a-z0-9-]{0,39}\z")]
    private static partial Regex TemplateName();

    [GeneratedRegex(@"\A[0-9a-f]{16}\z")]
    private static partial Regex VersionName();
}
