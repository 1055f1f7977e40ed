using Google.Protobuf.WellKnownTypes;
using Sandbox.Abstractions;
using Sandbox.E2b.Protos.Filesystem;

namespace Sandbox.E2b.Envd.Filesystem;

/// <summary>Files as E2B describes them.</summary>
internal static class Entries
{
    /// <summary>An entry.</summary>
    public static EntryInfo Of(FileEntry file)
    {
        var entry = new EntryInfo
        {
            Name = NameOf(file.Path),
            Type = file.Kind switch
            {
                FileKind.File => FileType.File,
                FileKind.Directory => FileType.Directory,
                FileKind.Symlink => FileType.Symlink,
                _ => FileType.Unspecified,
            },
            Path = file.Path,
            Size = file.Size,
            Mode = (uint)file.Mode,
            Permissions = Permissions(file.Kind, file.Mode),
            Owner = file.Owner,
            Group = file.Group,
            ModifiedTime = Timestamp.FromDateTimeOffset(file.ModifiedAt),
        };
        if (file.SymlinkTarget is { } target)
        {
            entry.SymlinkTarget = target;
        }

        foreach (var (name, value) in file.Metadata)
        {
            entry.Metadata[name] = value;
        }

        return entry;
    }

    /// <summary>The last part of a path.</summary>
    public static string NameOf(string path)
    {
        var trimmed = path.TrimEnd('/');
        return trimmed.Length == 0 ? "/" : trimmed[(trimmed.LastIndexOf('/') + 1)..];
    }

    /// <summary>Permissions as ls writes them.</summary>
    public static string Permissions(FileKind kind, int mode)
    {
        const string All = "rwxrwxrwx";
        return string.Create(10, (kind, mode), static (text, of) =>
        {
            text[0] = of.kind switch { FileKind.Directory => 'd', FileKind.Symlink => 'l', FileKind.File => '-', _ => '?' };
            for (var i = 0; i < All.Length; i++)
            {
                text[i + 1] = (of.mode & (0x100 >> i)) != 0 ? All[i] : '-';
            }

            // The bits for set-uid, set-gid and sticky share the places of the three x.
            Special(text, 3, of.mode & 0x800, 's');
            Special(text, 6, of.mode & 0x400, 's');
            Special(text, 9, of.mode & 0x200, 't');
        });
    }

    private static void Special(Span<char> text, int place, int bit, char letter)
    {
        if (bit != 0)
        {
            text[place] = text[place] == 'x' ? letter : char.ToUpperInvariant(letter);
        }
    }
}
