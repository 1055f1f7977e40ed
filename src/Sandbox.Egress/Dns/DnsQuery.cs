using System.Buffers.Binary;
using System.Text;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Dns;

/// <summary>Codes of DNS answers (RFC 1035, RFC 6891).</summary>
internal enum DnsCode
{
    Ok = 0,
    FormatError = 1,
    ServerFailure = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
    BadVersion = 16,
}

/// <summary>Types of DNS records that we tell apart.</summary>
internal static class DnsType
{
    public const ushort A = 1;
    public const ushort Ptr = 12;
    public const ushort Aaaa = 28;
    public const ushort Opt = 41;
    public const ushort Svcb = 64;
    public const ushort Https = 65;
}

/// <summary>A query as the guest sent it. It is hostile: every length is checked, nothing in it is followed, and what is read is bounded by one question and a few records.</summary>
internal sealed record DnsQuery
{
    public const int HeaderBytes = 12;
    private const int MaxAdditional = 4;

    public required ushort Id { get; init; }

    /// <summary>The flags as sent.</summary>
    public required ushort Flags { get; init; }

    /// <summary>The question section as it stands in the query, with the letters' case; empty where there is none that can be repeated.</summary>
    public ReadOnlyMemory<byte> Question { get; init; }

    /// <summary>Lower case, without a final dot; <see langword="null"/>: the bytes are no host name. Empty: the root.</summary>
    public string? Name { get; init; }

    public ushort Type { get; init; }

    public ushort Class { get; init; }

    public bool HasEdns { get; init; }

    /// <summary>Most bytes the asker takes over UDP.</summary>
    public int PayloadSize { get; init; } = 512;

    /// <summary>What is wrong with it; <see cref="DnsCode.Ok"/>: nothing.</summary>
    public DnsCode Error { get; init; }

    public int Opcode => (Flags >> 11) & 15;

    /// <summary>Reads a query. <see langword="null"/>: it is none at all, or an answer, and answering could start a loop.</summary>
    public static DnsQuery? Read(ReadOnlyMemory<byte> message)
    {
        var span = message.Span;
        if (span.Length < HeaderBytes)
        {
            return null;
        }

        var flags = BinaryPrimitives.ReadUInt16BigEndian(span[2..]);
        if ((flags & 0x8000) != 0)
        {
            return null;
        }

        var query = new DnsQuery { Id = BinaryPrimitives.ReadUInt16BigEndian(span), Flags = flags };
        if (query.Opcode != 0)
        {
            return query with { Error = DnsCode.NotImplemented };
        }

        var questions = BinaryPrimitives.ReadUInt16BigEndian(span[4..]);
        var answers = BinaryPrimitives.ReadUInt16BigEndian(span[6..]);
        var authorities = BinaryPrimitives.ReadUInt16BigEndian(span[8..]);
        var additional = BinaryPrimitives.ReadUInt16BigEndian(span[10..]);
        var at = HeaderBytes;
        if (questions != 1 || answers != 0 || authorities != 0 || additional > MaxAdditional || !TryName(span, ref at, out var name) || span.Length - at < 4)
        {
            return query with { Error = DnsCode.FormatError };
        }

        query = query with
        {
            Name = name,
            Type = BinaryPrimitives.ReadUInt16BigEndian(span[at..]),
            Class = BinaryPrimitives.ReadUInt16BigEndian(span[(at + 2)..]),
            Question = message[HeaderBytes..(at + 4)],
        };
        at += 4;
        for (var i = 0; i < additional; i++)
        {
            if (!TryRecord(span, ref at, ref query))
            {
                return query with { Error = DnsCode.FormatError };
            }
        }

        return query;
    }

    // A question is the first name of a message: a pointer in it can only point at itself or at the header, so that there is none to follow.
    private static bool TryName(ReadOnlySpan<byte> span, ref int at, out string? name)
    {
        var start = at;
        var text = new StringBuilder();
        var isHost = true;
        name = null;
        while (at < span.Length)
        {
            int length = span[at++];
            if (length == 0)
            {
                var normal = HostNames.Normalise(text.ToString());
                name = text.Length == 0 ? "" : isHost && HostNames.IsValid(normal) ? normal : null;
                return at - start <= 255;
            }

            if (length > 63 || length > span.Length - at || at + length - start > 255)
            {
                return false;
            }

            if (text.Length > 0)
            {
                text.Append('.');
            }

            foreach (var b in span.Slice(at, length))
            {
                // A dot inside of a label would make another name of it.
                isHost &= b is > 0x20 and < 0x7f and not (byte)'.';
                text.Append((char)b);
            }

            at += length;
        }

        return false;
    }

    private static bool TryRecord(ReadOnlySpan<byte> span, ref int at, ref DnsQuery query)
    {
        // The name of OPT is the root; those of other records are passed over.
        var isRoot = at < span.Length && span[at] == 0;
        if (!TrySkipName(span, ref at) || span.Length - at < 10)
        {
            return false;
        }

        var type = BinaryPrimitives.ReadUInt16BigEndian(span[at..]);
        var size = BinaryPrimitives.ReadUInt16BigEndian(span[(at + 2)..]);
        var version = span[at + 5];
        int length = BinaryPrimitives.ReadUInt16BigEndian(span[(at + 8)..]);
        at += 10;
        if (length > span.Length - at)
        {
            return false;
        }

        at += length;
        if (type != DnsType.Opt)
        {
            return true;
        }

        if (!isRoot || query.HasEdns)
        {
            return false;
        }

        // 1232 bytes pass everywhere without fragments.
        query = query with { HasEdns = true, PayloadSize = Math.Clamp((int)size, 512, 1232), Error = version == 0 ? query.Error : DnsCode.BadVersion };
        return true;
    }

    private static bool TrySkipName(ReadOnlySpan<byte> span, ref int at)
    {
        for (var labels = 0; at < span.Length && labels < 128; labels++)
        {
            int length = span[at++];
            if (length == 0)
            {
                return true;
            }

            if ((length & 0xc0) == 0xc0)
            {
                at++;
                return at <= span.Length;
            }

            if (length > 63)
            {
                return false;
            }

            at += length;
        }

        return false;
    }
}
