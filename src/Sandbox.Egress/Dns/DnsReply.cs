using System.Buffers.Binary;
using System.Net;
using System.Text;

namespace Sandbox.Egress.Dns;

/// <summary>Writes an answer.</summary>
internal static class DnsReply
{
    /// <summary>Most addresses in one; a name with more is answered with the first of them.</summary>
    public const int MaxAddresses = 16;

    private const int RecordBytes = 16;
    private const int OptBytes = 11;
    private const int MaxReasonBytes = 200;

    /// <summary>Makes an answer.</summary>
    /// <param name="query">What it answers: its id, flags and question are repeated, letter for letter.</param>
    /// <param name="code">Code.</param>
    /// <param name="addresses">IPv4 addresses.</param>
    /// <param name="ttl">Seconds.</param>
    /// <param name="limit">Most bytes; what does not fit sets the mark for trying over TCP.</param>
    /// <param name="reason">Why it was refused, for askers that know EDNS (RFC 8914).</param>
    public static byte[] Write(DnsQuery query, DnsCode code, IReadOnlyList<IPAddress> addresses, int ttl, int limit, string? reason = null)
    {
        var size = DnsQuery.HeaderBytes + query.Question.Length + (query.HasEdns ? OptBytes : 0);
        var count = Math.Min(addresses.Count, MaxAddresses);
        var cut = size + (count * RecordBytes) > limit;
        count = cut ? 0 : count;
        size += count * RecordBytes;
        var why = query.HasEdns && reason is not null ? Encoding.ASCII.GetBytes(reason.Length > MaxReasonBytes ? reason[..MaxReasonBytes] : reason) : [];
        var explains = why.Length > 0 && size + 6 + why.Length <= limit;
        size += explains ? 6 + why.Length : 0;

        var reply = new byte[size];
        var span = reply.AsSpan();
        BinaryPrimitives.WriteUInt16BigEndian(span, query.Id);

        // An answer; opcode, RD and CD as asked; recursion is available.
        BinaryPrimitives.WriteUInt16BigEndian(span[2..], (ushort)(0x8080 | (query.Flags & 0x7910) | (cut ? 0x0200 : 0) | ((int)code & 15)));
        BinaryPrimitives.WriteUInt16BigEndian(span[4..], (ushort)(query.Question.IsEmpty ? 0 : 1));
        BinaryPrimitives.WriteUInt16BigEndian(span[6..], (ushort)count);
        BinaryPrimitives.WriteUInt16BigEndian(span[10..], (ushort)(query.HasEdns ? 1 : 0));
        query.Question.Span.CopyTo(span[DnsQuery.HeaderBytes..]);
        var at = DnsQuery.HeaderBytes + query.Question.Length;
        for (var i = 0; i < count; i++)
        {
            var record = span.Slice(at, RecordBytes);
            BinaryPrimitives.WriteUInt16BigEndian(record, 0xc000 | DnsQuery.HeaderBytes);
            BinaryPrimitives.WriteUInt16BigEndian(record[2..], DnsType.A);
            BinaryPrimitives.WriteUInt16BigEndian(record[4..], 1);
            BinaryPrimitives.WriteInt32BigEndian(record[6..], ttl);
            BinaryPrimitives.WriteUInt16BigEndian(record[10..], 4);
            addresses[i].TryWriteBytes(record[12..], out _);
            at += RecordBytes;
        }

        if (query.HasEdns)
        {
            WriteOpt(span[at..], code, explains ? why : []);
        }

        return reply;
    }

    private static void WriteOpt(Span<byte> span, DnsCode code, ReadOnlySpan<byte> why)
    {
        BinaryPrimitives.WriteUInt16BigEndian(span[1..], DnsType.Opt);
        BinaryPrimitives.WriteUInt16BigEndian(span[3..], 1232);
        span[5] = (byte)((int)code >> 4);
        if (why.IsEmpty)
        {
            return;
        }

        // Extended error 15 is "blocked", 22 "no reachable authority", 18 "prohibited".
        BinaryPrimitives.WriteUInt16BigEndian(span[9..], (ushort)(6 + why.Length));
        BinaryPrimitives.WriteUInt16BigEndian(span[11..], 15);
        BinaryPrimitives.WriteUInt16BigEndian(span[13..], (ushort)(2 + why.Length));
        BinaryPrimitives.WriteUInt16BigEndian(span[15..], code switch { DnsCode.NoSuchName => 15, DnsCode.ServerFailure => 22, _ => 18 });
        why.CopyTo(span[17..]);
    }
}
