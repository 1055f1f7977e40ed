using System.Reflection;
using System.Security.Cryptography;
using System.Text;

namespace Sandbox.Storage;

/// <summary>A numbered script of deploy/sql, which this assembly carries.</summary>
internal sealed record SqlScript(string Name, string Text)
{
    /// <summary>SHA-256 of the text, in hexadecimal: what a database remembers of a script it has applied.</summary>
    public string Checksum { get; } = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(Text)));

    /// <summary>The scripts of a folder of deploy/sql, in the order of their numbers.</summary>
    public static IReadOnlyList<SqlScript> Load(string folder)
    {
        var assembly = Assembly.GetExecutingAssembly();
        var prefix = folder + "/";
        return [.. assembly.GetManifestResourceNames().Where(n => n.StartsWith(prefix, StringComparison.Ordinal)).Order(StringComparer.Ordinal).Select(name =>
        {
            using var reader = new StreamReader(assembly.GetManifestResourceStream(name)!);
            return new SqlScript(name[prefix.Length..], reader.ReadToEnd());
        })];
    }
}
