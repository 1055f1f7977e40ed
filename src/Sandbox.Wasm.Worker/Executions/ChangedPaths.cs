using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker.Executions;

/// <summary>
/// Which files appear or change below a directory and below /tmp/artifacts. The rules are those of the guest agent (docs/guest-protocol.md); here the file system itself says what changes.
/// </summary>
internal sealed class ChangedPaths : IDisposable
{
    private const int MostRemembered = 10_000;
    private const string Artifacts = "/tmp/artifacts";

    private static readonly HashSet<string> Ignored = new(StringComparer.Ordinal) { "node_modules", "__pycache__", "site-packages" };

    private readonly SessionVolume _volume;
    private readonly string _directory;
    private readonly int _limit;
    private readonly HashSet<string> _paths = new(StringComparer.Ordinal);
    private uint _lost;

    private ChangedPaths(SessionVolume volume, string directory, int limit)
    {
        (_volume, _directory, _limit) = (volume, directory, limit);
        volume.Changed += Note;
    }

    /// <summary>Begins, if it was asked for.</summary>
    public static ChangedPaths? Begin(WatchArtifacts? request, SessionVolume volume, string directory) =>
        request is null ? null : new ChangedPaths(volume, directory, request.Limit == 0 ? 100 : (int)Math.Min(request.Limit, ProtocolLimits.MaxChangedFiles));

    public void Dispose() => _volume.Changed -= Note;

    /// <summary>Ends, and names what is there now.</summary>
    public ChangedFiles? Finish()
    {
        Dispose();
        var changed = new ChangedFiles { More = _lost };
        var size = 0;
        foreach (var path in _paths.Order(StringComparer.Ordinal))
        {
            Node node;
            try
            {
                node = _volume.Find(_volume.Root, path, follow: false);
            }
            catch (VolumeException)
            {
                continue;
            }

            if (node.Kind != NodeKind.File || Encoding.UTF8.GetByteCount(path) > ProtocolLimits.MaxPathBytes)
            {
                continue;
            }

            size += path.Length + 64;
            if (changed.Files.Count < _limit && size < ProtocolLimits.MaxFrameBytes / 2)
            {
                changed.Files.Add(new ChangedFile { Path = path, Size = (ulong)node.Size, Blocks = (ulong)node.Extents.Blocks * 8 });
            }
            else
            {
                changed.More++;
            }
        }

        return changed.Files.Count > 0 || changed.More > 0 ? changed : null;
    }

    /// <summary>Runs with the volume's lock held.</summary>
    private void Note(Change change)
    {
        if (change.Kind is not (ChangeKind.Created or ChangeKind.Written) || change.Node.Kind != NodeKind.File || _volume.PathOf(change.Directory) is not { } directory)
        {
            return;
        }

        var path = (directory == "/" ? "" : directory) + "/" + change.Name;
        if (!IsBelow(path, _directory) && !IsBelow(path, Artifacts))
        {
            return;
        }

        if (_paths.Count < MostRemembered)
        {
            _paths.Add(path);
        }
        else if (!_paths.Contains(path))
        {
            _lost++;
        }
    }

    private static bool IsBelow(string path, string directory)
    {
        var prefix = directory == "/" ? "/" : directory + "/";
        return path.StartsWith(prefix, StringComparison.Ordinal)
            && !path[prefix.Length..].Split('/').SkipLast(1).Any(p => p.StartsWith('.') || Ignored.Contains(p));
    }
}
