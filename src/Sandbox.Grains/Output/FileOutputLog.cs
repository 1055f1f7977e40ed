using System.Buffers.Binary;
using System.IO.Hashing;
using Microsoft.Win32.SafeHandles;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Output;

/// <summary>
/// One execution's log in one file. A record is: length of the data (4), CRC-32 of what follows (4), number (8), time in ticks (8), kind (1), data.
/// A torn tail is cut when the file is opened. Safe from the death of the process, not from a loss of power.
/// </summary>
internal sealed class FileOutputLog : IOutputLog, IDisposable
{
    private const int HeaderBytes = 4 + 4 + 8 + 8 + 1;
    private const int MaxDataBytes = 4 * 1024 * 1024;
    private const int IndexEvery = 64;

    private readonly Lock _gate = new();
    private readonly SafeFileHandle _file;
    private readonly TimeProvider _clock;

    /// <summary>Offset of events 1, 65, 129 …</summary>
    private readonly List<long> _index = [];
    private long _end;
    private TaskCompletionSource _grown = NewSignal();

    public FileOutputLog(string path, TimeProvider clock)
    {
        _clock = clock;
        LastUsed = clock.GetUtcNow();
        _file = File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
        Recover();
    }

    public long LastSeq { get; private set; }

    public ExecutionExit? Exit { get; private set; }

    public DateTimeOffset LastUsed { get; private set; }

    public IReadOnlyList<OutputEvent> Append(IReadOnlyList<PendingEvent> events)
    {
        TaskCompletionSource grown;
        var numbered = new OutputEvent[events.Count];
        lock (_gate)
        {
            if (Exit is not null)
            {
                throw new InvalidOperationException("The log is complete: its exit has been written.");
            }

            var buffer = new byte[events.Sum(e => HeaderBytes + e.Data.Length)];
            var offsets = new List<long>();
            var at = 0;
            for (var i = 0; i < events.Count; i++)
            {
                var pending = events[i];
                numbered[i] = new OutputEvent(LastSeq + 1 + i, pending.Kind, pending.Time, pending.Data);
                if ((numbered[i].Seq - 1) % IndexEvery == 0)
                {
                    offsets.Add(_end + at);
                }

                at += Encode(numbered[i], buffer.AsSpan(at));
            }

            // State changes only once the bytes are written: a full disk leaves the log as it was, and the next append overwrites the rest.
            RandomAccess.Write(_file, buffer, _end);
            _end += at;
            _index.AddRange(offsets);
            LastSeq += events.Count;
            LastUsed = _clock.GetUtcNow();
            if (numbered.Length > 0 && numbered[^1].Kind == OutputKind.Exit)
            {
                Exit = numbered[^1].ReadExit();
            }

            grown = _grown;
            _grown = NewSignal();
        }

        grown.TrySetResult();
        return numbered;
    }

    public async Task<OutputPage> ReadAsync(long fromSeq, int maxBytes, TimeSpan wait, CancellationToken cancellationToken)
    {
        Task grown;
        lock (_gate)
        {
            LastUsed = _clock.GetUtcNow();
            grown = _grown.Task;
            if (fromSeq <= LastSeq || Exit is not null)
            {
                return Page(fromSeq, maxBytes);
            }
        }

        if (wait > TimeSpan.Zero)
        {
            // The signal may be of events before the one asked for: an early, empty page is fine, the reader asks again.
            await Task.WhenAny(grown, Task.Delay(wait, cancellationToken));
            cancellationToken.ThrowIfCancellationRequested();
        }

        lock (_gate)
        {
            return Page(fromSeq, maxBytes);
        }
    }

    public void Dispose()
    {
        lock (_gate)
        {
            _file.Dispose();
        }
    }

    private OutputPage Page(long fromSeq, int maxBytes)
    {
        var events = new List<OutputEvent>();
        var bytes = 0;
        if (fromSeq <= LastSeq)
        {
            var (offset, seq) = (_index[(int)((fromSeq - 1) / IndexEvery)], ((fromSeq - 1) / IndexEvery * IndexEvery) + 1);
            for (; seq <= LastSeq; seq++)
            {
                var length = LengthAt(offset);
                if (seq >= fromSeq)
                {
                    if (events.Count > 0 && bytes + length > maxBytes)
                    {
                        break;
                    }

                    events.Add(Decode(offset, out _) ?? throw new InvalidDataException($"Event {seq} of the output log is damaged."));
                    bytes += length + 64;
                }

                offset += HeaderBytes + length;
            }
        }

        var next = Math.Max(fromSeq, events.Count > 0 ? events[^1].Seq + 1 : fromSeq);
        return new OutputPage { Events = events, NextSeq = next, Complete = Exit is not null && next > LastSeq };
    }

    private void Recover()
    {
        var offset = 0L;
        while (Decode(offset, out var size) is { } e && e.Seq == LastSeq + 1)
        {
            if (LastSeq % IndexEvery == 0)
            {
                _index.Add(offset);
            }

            offset += size;
            LastSeq = e.Seq;
            if (e.Kind == OutputKind.Exit)
            {
                Exit = e.ReadExit();
                break;
            }
        }

        _end = offset;
        if (RandomAccess.GetLength(_file) > _end)
        {
            RandomAccess.SetLength(_file, _end);
        }
    }

    private static int Encode(OutputEvent e, Span<byte> to)
    {
        BinaryPrimitives.WriteInt32LittleEndian(to, e.Data.Length);
        BinaryPrimitives.WriteInt64LittleEndian(to[8..], e.Seq);
        BinaryPrimitives.WriteInt64LittleEndian(to[16..], e.Time.UtcTicks);
        to[24] = (byte)e.Kind;
        e.Data.CopyTo(to[HeaderBytes..]);
        var size = HeaderBytes + e.Data.Length;
        BinaryPrimitives.WriteUInt32LittleEndian(to[4..], Crc32.HashToUInt32(to[8..size]));
        return size;
    }

    private OutputEvent? Decode(long offset, out int size)
    {
        size = 0;
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (RandomAccess.Read(_file, header, offset) < HeaderBytes)
        {
            return null;
        }

        var length = BinaryPrimitives.ReadInt32LittleEndian(header);
        if (length is < 0 or > MaxDataBytes)
        {
            return null;
        }

        var data = new byte[length];
        if (RandomAccess.Read(_file, data, offset + HeaderBytes) < length)
        {
            return null;
        }

        var crc = new Crc32();
        crc.Append(header[8..]);
        crc.Append(data);
        if (crc.GetCurrentHashAsUInt32() != BinaryPrimitives.ReadUInt32LittleEndian(header[4..]))
        {
            return null;
        }

        size = HeaderBytes + length;
        var time = new DateTimeOffset(BinaryPrimitives.ReadInt64LittleEndian(header[16..]), TimeSpan.Zero);
        return new OutputEvent(BinaryPrimitives.ReadInt64LittleEndian(header[8..]), (OutputKind)header[24], time, data);
    }

    private int LengthAt(long offset)
    {
        Span<byte> length = stackalloc byte[4];
        RandomAccess.Read(_file, length, offset);
        return BinaryPrimitives.ReadInt32LittleEndian(length);
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);
}
