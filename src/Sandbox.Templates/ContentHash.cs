using System.Security.Cryptography;
using System.Text;

namespace Sandbox.Templates;

/// <summary>The version of an image: a hash over everything that goes into it.</summary>
internal static class ContentHash
{
    /// <summary>Raised when the builder itself changes what it makes.</summary>
    private const string BuilderFormat = "builder 2";

    /// <summary>First 16 hex digits of a SHA-256 over names, modes and contents of all files below the folders.</summary>
    public static string Of(params ReadOnlySpan<string> folders) => With("", folders);

    /// <summary>The same, with something that is in no file.</summary>
    public static string With(string more, params ReadOnlySpan<string> folders)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Add(hash, BuilderFormat + more);
        foreach (var folder in folders)
        {
            Add(hash, "folder");
            foreach (var file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
            {
                Add(hash, Path.GetRelativePath(folder, file));
                Add(hash, (File.GetUnixFileMode(file) & UnixFileMode.UserExecute) != 0 ? "x" : "-");
                Add(hash, Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(file))));
            }
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset())[..16];
    }

    private static void Add(IncrementalHash hash, string text)
    {
        hash.AppendData(Encoding.UTF8.GetBytes(text));
        hash.AppendData([0]);
    }
}
