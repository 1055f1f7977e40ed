using Sandbox.Abstractions;
using Sandbox.Guest.Protocol;

namespace Sandbox.Grains.Sessions.Validation;

/// <summary>What labels a file may be given.</summary>
internal static class FileLabels
{
    /// <exception cref="SandboxException">They are no printable ASCII, too long, or for an append.</exception>
    public static void Check(OpenWriteRequest request)
    {
        var labels = request.Metadata ?? throw SandboxException.Invalid("metadata", "The labels are null.");
        if (labels.Count > 0 && request.Append)
        {
            throw SandboxException.Invalid("metadata", "What is appended has no labels of its own. Write the file anew to label it.");
        }

        foreach (var (name, value) in labels)
        {
            if (name.Length is 0 or > ProtocolLimits.MaxMetadataNameBytes || !name.All(c => c is > ' ' and < '\x7f'))
            {
                throw SandboxException.Invalid("metadata", $"The name of a label is 1 to {ProtocolLimits.MaxMetadataNameBytes} printable ASCII characters without spaces.");
            }

            if (value is null || !value.All(c => c is >= ' ' and < '\x7f'))
            {
                throw SandboxException.Invalid($"metadata.{name}", $"The label '{name}' is not printable ASCII.");
            }
        }

        if (labels.Sum(l => l.Key.Length + l.Value.Length) > ProtocolLimits.MaxMetadataBytes)
        {
            throw SandboxException.Invalid("metadata", $"A file's labels have at most {ProtocolLimits.MaxMetadataBytes} bytes in all, names and values.");
        }
    }
}
