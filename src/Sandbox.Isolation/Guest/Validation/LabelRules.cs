using Google.Protobuf.Collections;
using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Validation;

/// <summary>Labels of files as a guest tells them. Programs in the guest can set any: what is unfit is dropped, and the file is shown without.</summary>
internal static class LabelRules
{
    /// <summary>Keeps those of printable ASCII, as long as all together stay below the limit.</summary>
    public static void DropUnfit(MapField<string, string> labels)
    {
        if (labels.Count == 0)
        {
            return;
        }

        var left = ProtocolLimits.MaxMetadataBytes;
        foreach (var (name, value) in labels.ToList())
        {
            if (!IsName(name) || !IsValue(value) || (left -= name.Length + value.Length) < 0)
            {
                labels.Remove(name);
            }
        }
    }

    private static bool IsName(string text) => text.Length is > 0 and <= ProtocolLimits.MaxMetadataNameBytes && text.All(c => c is > ' ' and < '\x7f');

    private static bool IsValue(string text) => text.All(c => c is >= ' ' and < '\x7f');
}
