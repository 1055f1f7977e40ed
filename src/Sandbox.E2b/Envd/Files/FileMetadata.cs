using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Envd.Files;

/// <summary>Labels of uploaded files: the headers <c>X-Metadata-name: value</c>.</summary>
internal static class FileMetadata
{
    private const string Prefix = "X-Metadata-";
    private const int MaxName = 240;
    private const int MaxBytes = 4096;

    /// <summary>The labels that a request gives.</summary>
    /// <exception cref="SandboxException">They are not printable ASCII, or too many or too long.</exception>
    public static Dictionary<string, string> Of(HttpRequest request)
    {
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        var bytes = 0;
        foreach (var (header, values) in request.Headers)
        {
            if (!header.StartsWith(Prefix, StringComparison.OrdinalIgnoreCase))
            {
                continue;
            }

            // Header names have no case; of a repeated header the first counts.
            var name = header[Prefix.Length..].ToLowerInvariant();
            var value = values[0] ?? "";
            if (name.Length is 0 or > MaxName || !IsPrintable(name) || !IsPrintable(value))
            {
                throw new SandboxException(SandboxErrorCode.InvalidArgument, $"Metadata is printable ASCII, its names of 1 to {MaxName} characters; '{(name.Length > 64 ? name[..64] + "…" : name)}' is not, or its value.");
            }

            bytes += name.Length + value.Length;
            metadata[name] = value;
        }

        return bytes <= MaxBytes ? metadata : throw new SandboxException(SandboxErrorCode.InvalidArgument, $"The metadata of a file has at most {MaxBytes} bytes in all.");
    }

    private static bool IsPrintable(string text) => text.All(c => c is >= ' ' and <= '~');
}
