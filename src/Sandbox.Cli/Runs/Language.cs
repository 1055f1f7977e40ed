namespace Sandbox.Cli.Runs;

/// <summary>A language that `run` can start, and how.</summary>
internal sealed record Language(string Name, string[] Extensions, string Program, string CodeOption)
{
    private static readonly Language[] All =
    [
        new("python", [".py"], "python3", "-c"),
        new("javascript", [".js", ".mjs", ".cjs"], "node", "-e"),
        new("bash", [".sh", ".bash"], "bash", "-c"),
    ];

    public static string Names => string.Join(", ", All.Select(l => l.Name));

    /// <summary>By name, or by a file's extension.</summary>
    /// <exception cref="UserException">Neither says.</exception>
    public static Language Choose(string? name, string? file)
    {
        if (name is not null)
        {
            return All.FirstOrDefault(l => l.Name == name) ?? throw new UserException($"there is no language '{name}'; there are {Names}", ExitCodes.Usage);
        }

        if (file is null)
        {
            return All[0];
        }

        var extension = Path.GetExtension(file);
        return All.FirstOrDefault(l => l.Extensions.Contains(extension, StringComparer.OrdinalIgnoreCase))
            ?? throw new UserException($"the language of '{file}' is not clear from its name; say it with --language ({Names})", ExitCodes.Usage);
    }

    /// <summary>Command line for a file.</summary>
    public string[] ForFile(string file, IEnumerable<string> arguments) => [Program, file, .. arguments];

    /// <summary>Command line for code; bash gives its first argument to $0.</summary>
    public string[] ForCode(string code, IEnumerable<string> arguments) => Name == "bash" ? [Program, CodeOption, code, "bash", .. arguments] : [Program, CodeOption, code, .. arguments];
}
