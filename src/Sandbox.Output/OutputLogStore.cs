using System.Collections.Concurrent;
using Sandbox.Output.Segments;

namespace Sandbox.Output;

/// <summary>
/// The output logs of one host: <c>&lt;root&gt;/&lt;session&gt;/&lt;execution&gt;/&lt;first record&gt;.seg</c>. One process owns a root at a time.
/// Safe for concurrent use. See docs/output-log.md.
/// </summary>
public sealed class OutputLogStore : IDisposable
{
    private readonly string _root;
    private readonly OutputLogOptions _options;
    private readonly FileCache _files;
    private readonly FileStream _ownership;
    private readonly ConcurrentDictionary<string, Slot> _slots = new(StringComparer.Ordinal);

    /// <summary>Keeps logs that were opened lately; the others live as long as somebody uses them.</summary>
    private readonly OutputLog?[] _recent;
    private int _opened;

    /// <summary>Opens a root, making the directory (mode 0700) if it is not there.</summary>
    /// <exception cref="OutputLogException">Another process uses this root.</exception>
    public OutputLogStore(string root, OutputLogOptions? options = null)
    {
        ArgumentException.ThrowIfNullOrEmpty(root);
        _root = Path.GetFullPath(root);
        _options = options ?? new OutputLogOptions();
        ArgumentOutOfRangeException.ThrowIfLessThan(_options.MaxOutputBytes, 0);
        ArgumentOutOfRangeException.ThrowIfLessThan(_options.SegmentBytes, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(_options.MaxRecordBytes, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(_options.MaxCachedLogs, 1);
        _recent = new OutputLog?[_options.MaxCachedLogs];
        MakeDirectory(_root);
        try
        {
            _ownership = new FileStream(Path.Combine(_root, ".lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException e)
        {
            throw new OutputLogException($"Output logs under {_root} are in use by another process; a root has one writer. Stop it or choose another directory.", e);
        }

        _files = new FileCache(_options.MaxOpenFiles);
    }

    /// <summary>Files open at the moment.</summary>
    public int OpenFiles => _files.Count;

    /// <summary>Opens a log, making it if it is not there. A torn tail is cut; the numbers go on where they stopped.</summary>
    /// <exception cref="ArgumentException">An id is not one: <c>[A-Za-z0-9_-]{1,64}</c>.</exception>
    /// <exception cref="OutputLogCorruptException">The log is damaged in its middle.</exception>
    public OutputLog Open(string session, string execution) => Get(session, execution, make: true)!;

    /// <summary>Opens a log, or returns <see langword="null"/> where there is none.</summary>
    /// <exception cref="ArgumentException">An id is not one: <c>[A-Za-z0-9_-]{1,64}</c>.</exception>
    /// <exception cref="OutputLogCorruptException">The log is damaged in its middle.</exception>
    public OutputLog? Find(string session, string execution) => Get(session, execution, make: false);

    /// <summary>Executions of a session that have a log here, in no order.</summary>
    /// <exception cref="ArgumentException">The id is not one: <c>[A-Za-z0-9_-]{1,64}</c>.</exception>
    public IReadOnlyList<string> List(string session) => Executions(Path.Combine(_root, OutputIds.Require(session, nameof(session))));

    /// <summary>Deletes all logs of a session. Readers and writers of them get <see cref="OutputLogDeletedException"/>.</summary>
    public Task DeleteAsync(string session)
    {
        var directory = Path.Combine(_root, OutputIds.Require(session, nameof(session)));
        return Task.Run(() =>
        {
            foreach (var execution in Executions(directory))
            {
                Delete(session, execution);
            }

            RemoveIfEmpty(directory);
        });
    }

    /// <summary>Deletes one log.</summary>
    public Task DeleteAsync(string session, string execution)
    {
        OutputIds.Require(session, nameof(session));
        OutputIds.Require(execution, nameof(execution));
        return Task.Run(() =>
        {
            Delete(session, execution);
            RemoveIfEmpty(Path.Combine(_root, session));
        });
    }

    /// <summary>
    /// Deletes the logs whose last record was written longer ago than <paramref name="age"/>. A log that this process is writing stays,
    /// however long its execution has been silent.
    /// </summary>
    /// <returns>How many logs and bytes were deleted.</returns>
    public (int Logs, long Bytes) Sweep(TimeSpan age)
    {
        var before = _options.TimeProvider.GetUtcNow().UtcDateTime - age;
        var (logs, bytes) = (0, 0L);
        foreach (var directory in Directory.EnumerateDirectories(_root).Where(d => OutputIds.IsValid(Path.GetFileName(d))))
        {
            foreach (var execution in Executions(directory))
            {
                var files = new DirectoryInfo(Path.Combine(directory, execution)).GetFiles();
                var last = files.Length == 0 ? Directory.GetLastWriteTimeUtc(Path.Combine(directory, execution)) : files.Max(f => f.LastWriteTimeUtc);
                if (last < before && Delete(Path.GetFileName(directory), execution, unlessWritten: true))
                {
                    logs++;
                    bytes += files.Sum(f => f.Length);
                }
            }

            RemoveIfEmpty(directory);
        }

        Forget();
        return (logs, bytes);
    }

    /// <summary>Closes all files and gives the root up.</summary>
    public void Dispose()
    {
        _files.Dispose();
        _ownership.Dispose();
    }

    private static string[] Executions(string directory) =>
        Directory.Exists(directory) ? [.. Directory.GetDirectories(directory).Select(d => Path.GetFileName(d)).Where(OutputIds.IsValid)] : [];

    private static void RemoveIfEmpty(string directory)
    {
        try
        {
            Directory.Delete(directory);
        }
        catch (IOException)
        {
            // Not empty, or gone already.
        }
    }

    private void MakeDirectory(string path)
    {
        if (Directory.Exists(path))
        {
            return;
        }

        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(path);
        }
        else
        {
            Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }

        if (_options.Durability == OutputDurability.PowerLoss)
        {
            DirectorySync.Flush(Path.GetDirectoryName(path)!);
        }
    }

    private OutputLog? Get(string session, string execution, bool make)
    {
        var parent = Path.Combine(_root, OutputIds.Require(session, nameof(session)));
        var directory = Path.Combine(parent, OutputIds.Require(execution, nameof(execution)));
        while (true)
        {
            if (!make && !Directory.Exists(directory))
            {
                return null;
            }

            var slot = _slots.GetOrAdd($"{session}/{execution}", _ => new Slot());
            lock (slot)
            {
                if (slot.Gone)
                {
                    continue;
                }

                if (slot.Log is not null && slot.Log.TryGetTarget(out var open) && !open.IsDeleted)
                {
                    return open;
                }

                if (make)
                {
                    MakeDirectory(parent);
                    MakeDirectory(directory);
                }
                else if (!Directory.Exists(directory))
                {
                    return null;
                }

                var log = new OutputLog(session, execution, directory, _options, _files);
                slot.Log = new WeakReference<OutputLog>(log);
                _recent[(uint)Interlocked.Increment(ref _opened) % (uint)_recent.Length] = log;
                return log;
            }
        }
    }

    private void Delete(string session, string execution) => Delete(session, execution, unlessWritten: false);

    private bool Delete(string session, string execution, bool unlessWritten)
    {
        var directory = Path.Combine(_root, session, execution);
        var key = $"{session}/{execution}";
        var slot = _slots.GetOrAdd(key, _ => new Slot());
        lock (slot)
        {
            if (slot.Log is not null && slot.Log.TryGetTarget(out var open))
            {
                if (unlessWritten && open.IsBeingWritten)
                {
                    return false;
                }

                open.MarkDeleted();
            }

            slot.Gone = true;
            _slots.TryRemove(new KeyValuePair<string, Slot>(key, slot));
            _files.Forget(directory);
            if (Directory.Exists(directory))
            {
                Directory.Delete(directory, recursive: true);
            }

            return true;
        }
    }

    /// <summary>Drops the slots of logs that nobody uses.</summary>
    private void Forget()
    {
        foreach (var (key, slot) in _slots)
        {
            lock (slot)
            {
                if (slot.Log is null || !slot.Log.TryGetTarget(out _))
                {
                    slot.Gone = true;
                    _slots.TryRemove(new KeyValuePair<string, Slot>(key, slot));
                }
            }
        }
    }

    private sealed class Slot
    {
        public WeakReference<OutputLog>? Log { get; set; }

        public bool Gone { get; set; }
    }
}
