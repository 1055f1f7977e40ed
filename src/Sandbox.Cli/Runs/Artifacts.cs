using System.Text;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;
using Spectre.Console;

namespace Sandbox.Cli.Runs;

/// <summary>
/// Brings back what a run created or changed in its directory. The guest is hostile, so its names are checked part by part, links are neither followed nor made,
/// and no more bytes are taken than agreed, whatever sizes the guest names.
/// </summary>
internal sealed class Artifacts(SandboxApi api, string session, string directory, Say say)
{
    private const int MaxEntries = 20_000;
    private const int MaxFiles = 1000;
    private const long MaxBytes = 4L << 30;
    private const int MaxDepth = 32;
    private Dictionary<string, RemoteFile> _before = new(StringComparer.Ordinal);

    /// <summary>Remembers what is there before the run.</summary>
    public async Task RememberAsync(CancellationToken cancellationToken) =>
        _before = (await api.Files.ListAsync(session, directory, MaxDepth, MaxEntries, cancellationToken)).GroupBy(f => f.Path, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.Last(), StringComparer.Ordinal);

    /// <summary>Downloads what is new or different and lists it.</summary>
    public async Task BringBackAsync(string target, CancellationToken cancellationToken)
    {
        var root = Path.GetFullPath(target);
        Directory.CreateDirectory(root);
        var changed = (await api.Files.ListAsync(session, directory, MaxDepth, MaxEntries, cancellationToken)).Where(IsChanged).OrderBy(f => f.Path, StringComparer.Ordinal).ToList();
        var taken = 0;
        var left = MaxBytes;
        foreach (var file in changed)
        {
            if (RelativeName(directory, file.Path) is not { } name)
            {
                say.Note($"skipped '{file.Path}': its name is not safe here");
                continue;
            }

            if (file.Kind != "file")
            {
                if (file.Kind != "directory")
                {
                    say.Note($"skipped {name}: it is a {file.Kind}, not a file");
                }

                continue;
            }

            if (taken == MaxFiles)
            {
                say.Note($"more than {MaxFiles} files were made; the rest stays in the session");
                break;
            }

            if (file.Size > left)
            {
                say.Note($"skipped {name}: with {Sizes.Show(file.Size)} it is beyond the {Sizes.Show(MaxBytes)} that are brought back");
                continue;
            }

            left -= await TakeAsync(file, root, name, left, cancellationToken);
            taken++;
        }

        if (taken == 0)
        {
            say.Note($"the run left no files in its directory; {target} is unchanged");
        }
    }

    /// <summary>
    /// The name of a guest's file below its directory, or <see langword="null"/> if it must not become a name here: outside the directory, with parts such as
    /// <c>..</c>, with control characters, or longer than file systems take.
    /// </summary>
    internal static string? RelativeName(string directory, string path)
    {
        var prefix = directory.TrimEnd('/') + "/";
        if (!path.StartsWith(prefix, StringComparison.Ordinal))
        {
            return null;
        }

        var name = path[prefix.Length..];
        return name.Length > 0 && Encoding.UTF8.GetByteCount(name) <= 1024 && name.Split('/').All(IsSafe) ? name : null;
    }

    /// <summary>Where a file may be written below a root: every directory on the way is a real one, made if missing.</summary>
    /// <exception cref="UserException">A part of the way is a link or a file.</exception>
    internal static string PlaceFor(string root, string name)
    {
        var parts = name.Split('/');
        var place = root;
        foreach (var part in parts[..^1])
        {
            place = Path.Combine(place, part);
            var info = new DirectoryInfo(place);
            if (info.LinkTarget is not null || File.Exists(place))
            {
                throw new UserException($"{place} is not a directory of its own (a link or a file); {name} was not written");
            }

            Directory.CreateDirectory(place);
        }

        return Path.Combine(place, parts[^1]);
    }

    private static bool IsSafe(string part) =>
        part is not ("" or "." or "..") && Encoding.UTF8.GetByteCount(part) <= 200 && !part.Any(c => char.IsControl(c) || c is '\\' or '\uFFFD') && Say.Printable(part) == part;

    private bool IsChanged(RemoteFile file) => !_before.TryGetValue(file.Path, out var old) || old.Size != file.Size || old.ModifiedAt != file.ModifiedAt || old.Kind != file.Kind;

    private static string ShortName(string place)
    {
        var relative = Path.GetRelativePath(Environment.CurrentDirectory, place);
        return relative.StartsWith("..", StringComparison.Ordinal) ? place : relative;
    }

    private async Task<long> TakeAsync(RemoteFile file, string root, string name, long most, CancellationToken cancellationToken)
    {
        var place = PlaceFor(root, name);
        if (Directory.Exists(place) && new DirectoryInfo(place).LinkTarget is null)
        {
            throw new UserException($"{place} is a directory; {name} was not written");
        }

        // Written beside its place under a name of ours and moved there: a link that is in the way is replaced, not followed.
        var partial = Path.Combine(Path.GetDirectoryName(place)!, $".sandbox-{Guid.NewGuid():N}.partial");
        try
        {
            long bytes;
            await using (var local = new FileStream(partial, FileMode.CreateNew, FileAccess.Write))
            {
                bytes = await api.Files.DownloadAsync(session, file.Path, local, most, null, cancellationToken);
            }

            File.Move(partial, place, overwrite: true);
            say.Error.MarkupLineInterpolated($"[grey]sandbox:[/] {Sizes.Show(bytes),10}  {ShortName(place)}");
            return bytes;
        }
        finally
        {
            File.Delete(partial);
        }
    }
}
