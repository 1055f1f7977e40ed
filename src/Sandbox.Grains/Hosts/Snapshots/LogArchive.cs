using System.Buffers.Binary;
using Sandbox.Abstractions;
using Sandbox.Grains.Output;

namespace Sandbox.Grains.Hosts.Snapshots;

/// <summary>
/// An output log as a file of a snapshot: for each event its kind (1 byte), time (8 bytes, milliseconds since 1970), length (4 bytes) and data, little-endian. A log that only grew is the same file with more
/// behind it, so the snapshot store keeps what was there once.
/// </summary>
internal static class LogArchive
{
    private const int HeaderBytes = 13;
    private const int PageBytes = 1 << 20;

    /// <summary>Writes the first <paramref name="events"/> of a log.</summary>
    public static async Task WriteAsync(IOutputLog log, long events, Stream to, CancellationToken cancellationToken)
    {
        var header = new byte[HeaderBytes];
        for (var next = 1L; next <= events;)
        {
            var page = await log.ReadAsync(next, PageBytes, TimeSpan.Zero, cancellationToken);
            if (page.Events.Count == 0)
            {
                throw new EndOfStreamException($"An output log has no event {next} of {events}.");
            }

            foreach (var e in page.Events.TakeWhile(e => e.Seq <= events))
            {
                header[0] = (byte)e.Kind;
                BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(1), e.Time.ToUnixTimeMilliseconds());
                BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(9), e.Data.Length);
                await to.WriteAsync(header, cancellationToken);
                await to.WriteAsync(e.Data, cancellationToken);
            }

            next = page.NextSeq;
        }
    }

    /// <summary>Appends what a log does not have yet of an archive.</summary>
    /// <exception cref="InvalidDataException">The archive is not one.</exception>
    public static void Append(ReadOnlyMemory<byte> archive, IOutputLog log)
    {
        var have = log.LastSeq;
        var batch = new List<PendingEvent>();
        var bytes = 0;
        for (var seq = 1L; archive.Length > 0; seq++)
        {
            var length = archive.Length >= HeaderBytes ? BinaryPrimitives.ReadInt32LittleEndian(archive.Span[9..]) : -1;
            if (length < 0 || length > archive.Length - HeaderBytes || !Enum.IsDefined((OutputKind)archive.Span[0]))
            {
                throw new InvalidDataException($"Event {seq} of a saved output log is none.");
            }

            if (seq > have)
            {
                var time = DateTimeOffset.FromUnixTimeMilliseconds(BinaryPrimitives.ReadInt64LittleEndian(archive.Span[1..]));
                batch.Add(new PendingEvent((OutputKind)archive.Span[0], time, archive.Slice(HeaderBytes, length).ToArray()));
                bytes += length;
            }

            archive = archive[(HeaderBytes + length)..];
            if (batch.Count > 0 && (archive.Length == 0 || bytes >= PageBytes))
            {
                log.Append(batch);
                batch.Clear();
                bytes = 0;
            }
        }
    }
}
