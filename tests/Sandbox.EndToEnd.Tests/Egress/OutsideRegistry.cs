using System.Formats.Tar;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;

namespace Sandbox.EndToEnd.Tests.Egress;

/// <summary>What looks like Python's and npm's registries, with one package each.</summary>
internal static class OutsideRegistry
{
    private const string Wheel = "sbxdemo-1.0-py3-none-any.whl";

    public static void Map(WebApplication app)
    {
        var (wheel, tarball) = (MakeWheel(), MakeTarball());
        app.MapGet("/simple/sbxdemo/", () => Results.Content($"<!DOCTYPE html><html><body><a href=\"/packages/{Wheel}#sha256={Convert.ToHexStringLower(SHA256.HashData(wheel))}\">{Wheel}</a></body></html>", "text/html"));
        app.MapGet("/packages/" + Wheel, () => Results.Bytes(wheel, "application/octet-stream"));
        app.MapGet("/sbxdemo", (HttpContext context) => Results.Json(new Dictionary<string, object>
        {
            ["name"] = "sbxdemo",
            ["dist-tags"] = new { latest = "1.0.0" },
            ["versions"] = new Dictionary<string, object>
            {
                ["1.0.0"] = new
                {
                    name = "sbxdemo",
                    version = "1.0.0",
                    main = "index.js",
                    dist = new { tarball = $"https://{context.Request.Host}/sbxdemo/-/sbxdemo-1.0.0.tgz", integrity = "sha512-" + Convert.ToBase64String(SHA512.HashData(tarball)) },
                },
            },
        }));
        app.MapGet("/sbxdemo/-/sbxdemo-1.0.0.tgz", () => Results.Bytes(tarball, "application/octet-stream"));
        app.MapFallback(() => Results.NotFound());
    }

    private static byte[] MakeWheel()
    {
        var bytes = new MemoryStream();
        using (var zip = new ZipArchive(bytes, ZipArchiveMode.Create, leaveOpen: true))
        {
            Add(zip, "sbxdemo/__init__.py", "answer = 42\n");
            Add(zip, "sbxdemo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: sbxdemo\nVersion: 1.0\n");
            Add(zip, "sbxdemo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n");
            Add(zip, "sbxdemo-1.0.dist-info/RECORD", "sbxdemo/__init__.py,,\nsbxdemo-1.0.dist-info/METADATA,,\nsbxdemo-1.0.dist-info/WHEEL,,\nsbxdemo-1.0.dist-info/RECORD,,\n");
        }

        return bytes.ToArray();
    }

    private static void Add(ZipArchive zip, string name, string text)
    {
        using var entry = zip.CreateEntry(name).Open();
        entry.Write(Encoding.UTF8.GetBytes(text));
    }

    private static byte[] MakeTarball()
    {
        var bytes = new MemoryStream();
        using (var gzip = new GZipStream(bytes, CompressionLevel.Fastest, leaveOpen: true))
        using (var tar = new TarWriter(gzip, TarEntryFormat.Ustar))
        {
            foreach (var (name, text) in new[] { ("package/package.json", "{\"name\":\"sbxdemo\",\"version\":\"1.0.0\",\"main\":\"index.js\"}"), ("package/index.js", "module.exports = 42\n") })
            {
                tar.WriteEntry(new UstarTarEntry(TarEntryType.RegularFile, name) { DataStream = new MemoryStream(Encoding.UTF8.GetBytes(text)) });
            }
        }

        return bytes.ToArray();
    }
}
