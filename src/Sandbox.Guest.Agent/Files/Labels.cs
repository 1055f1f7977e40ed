using System.Buffers;
using System.Text;
using Google.Protobuf.Collections;
using Microsoft.Win32.SafeHandles;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Files;

/// <summary>A file's labels: extended attributes under a prefix of ours, which any program in the guest can change.</summary>
internal static unsafe class Labels
{
    private const string Prefix = "user.sandbox.";

    /// <summary>What Linux allows the names of one file to be in all.</summary>
    private const int MaxNames = 64 * 1024;
    private const int TooBig = 7;
    private const int OutOfRange = 34;
    private const int NotSupported = 95;

    /// <summary>Refuses labels that could not be told to the host again.</summary>
    public static void Check(OpenWrite write)
    {
        if (write.Metadata.Count == 0)
        {
            return;
        }

        var total = write.Metadata.Sum(p => p.Key.Length + p.Value.Length);
        if (write.Append || total > ProtocolLimits.MaxMetadataBytes || !write.Metadata.All(p => IsSound(p.Key, p.Value)))
        {
            throw new AgentException(
                ErrorCode.InvalidArgument,
                $"Labels are printable ASCII, their names 1 to {ProtocolLimits.MaxMetadataNameBytes} characters, all together at most {ProtocolLimits.MaxMetadataBytes} bytes, and not for an append.");
        }
    }

    /// <summary>Labels a file that has none yet.</summary>
    public static void Write(SafeFileHandle file, string path, MapField<string, string> labels)
    {
        foreach (var (name, text) in labels)
        {
            var value = Encoding.ASCII.GetBytes(text);
            fixed (byte* bytes = value)
            {
                if (Native.SetAttribute((int)file.DangerousGetHandle(), Prefix + name, bytes, (nuint)value.Length, 0) == 0)
                {
                    continue;
                }
            }

            // Ext4 says "no space" where an inode has no room for more attributes.
            throw Native.Errno switch
            {
                NotSupported => new AgentException(ErrorCode.Unsupported, $"The file system of {path} keeps no labels (extended attributes).", NotSupported),
                TooBig or OutOfRange or Native.NoSpace => new AgentException(ErrorCode.InvalidArgument, $"The file system of {path} has no room for so many labels.", TooBig),
                var errno => AgentException.FromErrno(errno, $"Cannot label {path}"),
            };
        }
    }

    /// <summary>Adds a file's labels to what is said of it. Those that the host would not take are left out, and so are all beyond the limit.</summary>
    public static void Read(string path, bool follow, MapField<string, string> labels)
    {
        byte* probe = null;
        if ((follow ? Native.ListAttributes(path, probe, 0) : Native.ListLinkAttributes(path, probe, 0)) <= 0)
        {
            return;
        }

        var names = ArrayPool<byte>.Shared.Rent(MaxNames);
        try
        {
            nint length;
            fixed (byte* buffer = names)
            {
                length = follow ? Native.ListAttributes(path, buffer, MaxNames) : Native.ListLinkAttributes(path, buffer, MaxNames);
            }

            var left = ProtocolLimits.MaxMetadataBytes;
            foreach (var name in Encoding.ASCII.GetString(names.AsSpan(0, (int)Math.Max(0, length))).Split('\0', StringSplitOptions.RemoveEmptyEntries))
            {
                if (name.StartsWith(Prefix, StringComparison.Ordinal) && ValueOf(path, name, follow, left) is { } value && IsSound(name[Prefix.Length..], value)
                    && (left -= name.Length - Prefix.Length + value.Length) >= 0)
                {
                    labels[name[Prefix.Length..]] = value;
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(names);
        }
    }

    private static string? ValueOf(string path, string name, bool follow, int most)
    {
        if (most <= 0)
        {
            return null;
        }

        var value = new byte[most];
        fixed (byte* buffer = value)
        {
            var length = follow ? Native.GetAttribute(path, name, buffer, (nuint)most) : Native.GetLinkAttribute(path, name, buffer, (nuint)most);

            // Latin-1, so that what is no ASCII is seen as such.
            return length < 0 ? null : Encoding.Latin1.GetString(value, 0, (int)length);
        }
    }

    private static bool IsSound(string name, string value) =>
        name.Length is > 0 and <= ProtocolLimits.MaxMetadataNameBytes && name.All(c => c is > ' ' and < '\x7f') && value.All(c => c is >= ' ' and < '\x7f');
}
