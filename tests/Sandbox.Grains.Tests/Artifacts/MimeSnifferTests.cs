using System.Text;
using Sandbox.Grains.Hosts.Artifacts;
using Xunit;

namespace Sandbox.Grains.Tests.Artifacts;

public sealed class MimeSnifferTests
{
    public static TheoryData<string, string> Samples => new()
    {
        { "89504e470d0a1a0a00", "image/png" },
        { "ffd8ffe000", "image/jpeg" },
        { Hex("GIF89a.."), "image/gif" },
        { Hex("RIFF....WEBPVP8 "), "image/webp" },
        { Hex("RIFF....WAVEfmt "), "audio/wav" },
        { Hex("RIFF....AVI LIST"), "text/plain" },
        { Hex("%PDF-1.7"), "application/pdf" },
        { "1f8b0800", "application/gzip" },
        { Hex("PAR1....\u0001PAR1"), "application/vnd.apache.parquet" },
        { Hex("SQLite format 3\0x"), "application/vnd.sqlite3" },
        { Hex("ID3\u0004"), "audio/mpeg" },
        { "fffb9064", "audio/mpeg" },
        { "fffe6100", "application/octet-stream" },
        { "00000018" + Hex("ftypmp42"), "video/mp4" },
        { Hex("PK\u0003\u0004....x.txt"), "application/zip" },
        { Hex("PK\u0003\u0004[Content_Types].xml xl/workbook.xml"), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" },
        { Hex("PK\u0003\u0004xl/workbook.xml"), "application/zip" },
        { Hex(" \n<!DocType HTML>"), "text/html" },
        { Hex("\ufeff<script>1</script>"), "text/html" },
        { Hex("<?xml version='1.0'?>\n<svg xmlns='x'/>"), "image/svg+xml" },
        { Hex("<?xml version='1.0'?><a/>"), "text/plain" },
        { Hex("<!-- <html> --><svg/>"), "text/html" },
        { Hex("{\"a\": [1, null]}"), "application/json" },
        { Hex("[1, 2"), "text/plain" },
        { Hex("a,b\n1,2\n"), "text/plain" },
        { Hex("Grüße\t\u001b[31m"), "text/plain" },
        { Hex("a\0b"), "application/octet-stream" },
        { "c328", "application/octet-stream" },
        { "", "application/octet-stream" },
    };

    [Theory]
    [MemberData(nameof(Samples))]
    public void Bytes_tell_the_type(string hex, string type) => Assert.Equal(type, MimeSniffer.Of(Convert.FromHexString(hex)));

    [Fact]
    public void Long_texts_are_looked_at_only_in_part()
    {
        // Cut in the middle of a character, and with what no text has far behind.
        var text = Encoding.UTF8.GetBytes("a" + string.Concat(Enumerable.Repeat("ü", 10_000)));
        Assert.Equal("text/plain", MimeSniffer.Of(text));
        Assert.Equal("application/json", MimeSniffer.Of(Encoding.UTF8.GetBytes("[" + string.Join(", ", Enumerable.Range(0, 10_000)) + "]")));

        // As deep as it likes.
        Assert.Equal("text/plain", MimeSniffer.Of(Encoding.UTF8.GetBytes(new string('[', 100_000))));
        var random = new Random(1);
        for (var round = 0; round < 2000; round++)
        {
            var bytes = new byte[random.Next(64)];
            random.NextBytes(bytes);
            Assert.NotEmpty(MimeSniffer.Of(bytes));
        }
    }

    private static string Hex(string text) => Convert.ToHexString(Encoding.UTF8.GetBytes(text));
}
