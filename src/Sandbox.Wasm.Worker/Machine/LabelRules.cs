using Sandbox.Guest.Protocol;

namespace Sandbox.Wasm.Worker.Machine;

/// <summary>Which labels a file may bear: those that can be told to the host again.</summary>
internal static class LabelRules
{
    /// <exception cref="WorkerException">They could not be told.</exception>
    public static Dictionary<string, string>? Checked(OpenWrite write)
    {
        if (write.Metadata.Count == 0)
        {
            return null;
        }

        if (write.Append || write.Metadata.Sum(p => p.Key.Length + p.Value.Length) > ProtocolLimits.MaxMetadataBytes || !write.Metadata.All(p => IsSound(p.Key, p.Value)))
        {
            throw new WorkerException(
                ErrorCode.InvalidArgument,
                $"Labels are printable ASCII, their names 1 to {ProtocolLimits.MaxMetadataNameBytes} characters, all together at most {ProtocolLimits.MaxMetadataBytes} bytes, and not for an append.");
        }

        return new Dictionary<string, string>(write.Metadata, StringComparer.Ordinal);
    }

    private static bool IsSound(string name, string value) =>
        name.Length is > 0 and <= ProtocolLimits.MaxMetadataNameBytes && name.All(c => c is > ' ' and < '\x7f') && value.All(c => c is >= ' ' and < '\x7f');
}
