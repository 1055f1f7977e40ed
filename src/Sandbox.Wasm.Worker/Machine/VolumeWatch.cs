using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker.Machine;

/// <summary>Tells the host what changes in a directory, in the words of the guest agent (docs/guest-protocol.md).</summary>
internal sealed class VolumeWatch : IDisposable
{
    private const int MaxPerSecond = 2000;
    private const int MaxEarly = 1000;

    private readonly ulong _stream;
    private readonly WasmMachine _machine;
    private readonly string _path;
    private readonly bool _recursive;
    private readonly Node _directory;
    private readonly Queue<Change> _early = new();
    private bool _begun;
    private ulong _seq;
    private ulong _dropped;
    private long _second;
    private int _sent;

    /// <exception cref="WorkerException">There is no such directory.</exception>
    public VolumeWatch(ulong stream, WasmMachine machine, string path, bool recursive)
    {
        (_stream, _machine, _path, _recursive) = (stream, machine, path.Length > 1 ? path.TrimEnd('/') : path, recursive);
        try
        {
            _directory = machine.Volume.Find(machine.Volume.Root, path);
        }
        catch (VolumeException e)
        {
            throw WorkerException.Of(e, path);
        }

        if (_directory.Kind != NodeKind.Directory)
        {
            throw new WorkerException(ErrorCode.NotADirectory, $"{path} is not a directory.", 20);
        }

        machine.Volume.Changed += Note;
    }

    /// <summary>Reports changes from now on, beginning with those since it was made.</summary>
    public void Begin()
    {
        lock (_early)
        {
            _begun = true;
            while (_early.TryDequeue(out var change))
            {
                Report(change);
            }
        }
    }

    public void Dispose() => _machine.Volume.Changed -= Note;

    /// <summary>Runs with the volume's lock held.</summary>
    private void Note(Change change)
    {
        lock (_early)
        {
            if (_begun)
            {
                Report(change);
            }
            else if (_early.Count < MaxEarly)
            {
                _early.Enqueue(change);
            }
            else
            {
                _dropped++;
            }
        }
    }

    private void Report(Change change)
    {
        if (PathOf(change) is not { } path)
        {
            return;
        }

        if (Environment.TickCount64 - _second >= 1000)
        {
            (_second, _sent) = (Environment.TickCount64, 0);
        }

        // A host takes a path that is too long for an attack.
        if (_sent >= MaxPerSecond || _machine.Outbox.IsCongested || Encoding.UTF8.GetByteCount(path) > ProtocolLimits.MaxPathBytes)
        {
            _dropped++;
            return;
        }

        _sent++;
        var kind = change.Kind switch
        {
            ChangeKind.Created => WatchEvent.Types.Kind.Created,
            ChangeKind.Removed => WatchEvent.Types.Kind.Removed,
            ChangeKind.MovedAway => WatchEvent.Types.Kind.Renamed,
            ChangeKind.Attributes => WatchEvent.Types.Kind.Attributes,
            _ => WatchEvent.Types.Kind.Written,
        };
        _machine.Outbox.Send(new Frame { Stream = _stream, WatchEvent = new WatchEvent { Seq = ++_seq, Kind = kind, Path = path, Dropped = _dropped } });
        _dropped = 0;
    }

    /// <summary>The changed path as the host named the directory, or <see langword="null"/> if it is not in it.</summary>
    private string? PathOf(Change change)
    {
        if (ReferenceEquals(change.Node, _directory) && change.Kind == ChangeKind.Removed)
        {
            return _path;
        }

        var below = change.Name;
        for (var directory = change.Directory; !ReferenceEquals(directory, _directory); directory = directory.Parent)
        {
            if (!_recursive || directory.Parent is null)
            {
                return null;
            }

            below = directory.Name + "/" + below;
        }

        return (_path == "/" ? "" : _path) + "/" + below;
    }
}
