using System.Text;
using System.Text.Json;

namespace Sandbox.Grains.Hosts.Artifacts;

/// <summary>
/// Tells a file's MIME type by its bytes. A name says what its maker wants believed; the bytes are what a reader gets. Nothing is unpacked: an archive is looked at
/// only for the names it lists.
/// </summary>
internal static class MimeSniffer
{
    public const string Unknown = "application/octet-stream";

    /// <summary>How far into a text is looked.</summary>
    private const int TextBytes = 8 * 1024;

    /// <summary>How much of an archive's end is looked through for its directory.</summary>
    private const int DirectoryBytes = 64 * 1024;

    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    private static readonly string[] Markup =
        ["<!doctype html", "<html", "<head", "<body", "<script", "<iframe", "<style", "<title", "<table", "<div", "<h1", "<p>", "<br", "<b>", "<a ", "<img", "<font", "<form", "<link", "<meta", "<object", "<embed", "<base", "<input", "<video", "<audio", "<span"];

    private static readonly (string Mark, string Type)[] Office =
    [
        ("word/document.xml", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("xl/workbook.xml", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("ppt/presentation.xml", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ];

    /// <summary>The type of a whole file.</summary>
    public static string Of(ReadOnlySpan<byte> data) => OfBinary(data) ?? OfText(data) ?? Unknown;

    private static string? OfBinary(ReadOnlySpan<byte> d) =>
        d.Length > 8 && d[0] == 0x89 && d[1..].StartsWith("PNG\r\n\u001a\n"u8) ? "image/png"
        : d.StartsWith((ReadOnlySpan<byte>)[0xff, 0xd8, 0xff]) ? "image/jpeg"
        : d.StartsWith("GIF87a"u8) || d.StartsWith("GIF89a"u8) ? "image/gif"
        : d.StartsWith("%PDF-"u8) ? "application/pdf"
        : d.StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b, 8]) ? "application/gzip"
        : d.StartsWith("PK\u0003\u0004"u8) || d.StartsWith("PK\u0005\u0006"u8) ? OfArchive(d)
        : d.StartsWith("PAR1"u8) && d.EndsWith("PAR1"u8) && d.Length >= 12 ? "application/vnd.apache.parquet"
        : d.StartsWith("SQLite format 3\0"u8) ? "application/vnd.sqlite3"
        : d.StartsWith("RIFF"u8) && d.Length >= 12 ? OfRiff(d[8..12])
        : d.StartsWith("ID3"u8) || (d.Length >= 4 && d[0] == 0xff && (d[1] & 0xe6) == 0xe2 && (d[2] & 0xf0) is not (0 or 0xf0)) ? "audio/mpeg"
        : d.Length >= 12 && d[4..].StartsWith("ftyp"u8) ? "video/mp4"
        : null;

    private static string? OfRiff(ReadOnlySpan<byte> form) => form.SequenceEqual("WEBP"u8) ? "image/webp" : form.SequenceEqual("WAVE"u8) ? "audio/wav" : null;

    private static string OfArchive(ReadOnlySpan<byte> d)
    {
        var directory = d[Math.Max(0, d.Length - DirectoryBytes)..];
        if (directory.IndexOf("[Content_Types].xml"u8) >= 0)
        {
            foreach (var (mark, type) in Office)
            {
                if (directory.IndexOf(Encoding.ASCII.GetBytes(mark)) >= 0)
                {
                    return type;
                }
            }
        }

        return "application/zip";
    }

    private static string? OfText(ReadOnlySpan<byte> d)
    {
        if (d.IsEmpty || TextOf(d) is not { } text)
        {
            return null;
        }

        var start = text.TrimStart('\ufeff', ' ', '\t', '\r', '\n', '\f');
        if (Markup.Any(m => start.StartsWith(m, StringComparison.OrdinalIgnoreCase)))
        {
            return "text/html";
        }

        if (start.StartsWith("<?xml", StringComparison.Ordinal) || start.StartsWith("<!--", StringComparison.Ordinal) || start.StartsWith("<svg", StringComparison.OrdinalIgnoreCase) || start.StartsWith("<!DOCTYPE svg", StringComparison.OrdinalIgnoreCase))
        {
            // Both run scripts where they are shown as what they are; the one that comes first decides.
            var svg = start.IndexOf("<svg", StringComparison.OrdinalIgnoreCase);
            var html = start.IndexOf("<html", StringComparison.OrdinalIgnoreCase);
            return svg >= 0 && (html < 0 || svg < html) ? "image/svg+xml" : html >= 0 ? "text/html" : "text/plain";
        }

        return start.Length > 0 && start[0] is '{' or '[' && IsJson(d) ? "application/json" : "text/plain";
    }

    /// <summary>The first part of a file as text, or <see langword="null"/> if it is none: bytes that are not UTF-8, or that no text has.</summary>
    private static string? TextOf(ReadOnlySpan<byte> d)
    {
        var part = d[..Math.Min(d.Length, TextBytes)];
        for (var cut = 0; cut < 4 && cut < part.Length; cut++)
        {
            try
            {
                var text = Strict.GetString(part[..^cut]);
                return text.Any(c => char.IsControl(c) && c is not ('\t' or '\n' or '\r' or '\f' or '\b' or '\u001b')) ? null : text;
            }
            catch (DecoderFallbackException) when (part.Length < d.Length)
            {
                // The cut may be in the middle of a character.
            }
            catch (DecoderFallbackException)
            {
                return null;
            }
        }

        return null;
    }

    private static bool IsJson(ReadOnlySpan<byte> d)
    {
        if (d.StartsWith((ReadOnlySpan<byte>)[0xef, 0xbb, 0xbf]))
        {
            d = d[3..];
        }

        var whole = d.Length <= TextBytes;
        var reader = new Utf8JsonReader(d[..Math.Min(d.Length, TextBytes)], whole, default);
        try
        {
            while (reader.Read())
            {
            }

            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }
}
