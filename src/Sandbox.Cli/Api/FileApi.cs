using System.Globalization;
using System.Net.Http.Headers;
using System.Text.Json.Nodes;

namespace Sandbox.Cli.Api;

/// <summary>A file of a session, as its guest describes it.</summary>
internal sealed record RemoteFile(string Path, string Kind, long Size, int Mode, DateTimeOffset ModifiedAt);

/// <summary>Files of a session.</summary>
internal sealed class FileApi(SandboxApi api)
{
    private const int BufferBytes = 128 * 1024;

    public async Task<RemoteFile> MakeDirectoryAsync(string session, string path, CancellationToken cancellationToken) =>
        Read(await api.SendAsync(HttpMethod.Post, Address(session, "/mkdir", path), null, cancellationToken));

    public async Task<RemoteFile> StatAsync(string session, string path, CancellationToken cancellationToken) =>
        Read(await api.GetAsync(Address(session, "/stat", path), cancellationToken));

    /// <summary>Everything below a directory, page by page; at most <paramref name="most"/> entries are taken.</summary>
    public async Task<List<RemoteFile>> ListAsync(string session, string path, int depth, int most, CancellationToken cancellationToken)
    {
        var entries = new List<RemoteFile>();
        string? after = null;
        while (entries.Count < most)
        {
            var address = Address(session, "", path) + string.Create(CultureInfo.InvariantCulture, $"&depth={depth}&limit=1000");
            var page = await api.GetAsync(after is null ? address : $"{address}&after={Uri.EscapeDataString(after)}", cancellationToken);
            var files = page["entries"]!.AsArray().Select(e => Read(e!)).ToList();
            entries.AddRange(files);
            if (files.Count == 0 || page["more"]?.GetValue<bool>() != true || files[^1].Path == after)
            {
                break;
            }

            after = files[^1].Path;
        }

        return entries;
    }

    /// <summary>Uploads a stream, whole or not at all.</summary>
    public async Task UploadAsync(string session, string path, Stream content, int? mode, IProgress<long>? progress, CancellationToken cancellationToken)
    {
        var address = Address(session, "/content", path) + (mode is { } bits ? $"&mode={Convert.ToString(bits, 8)}" : "");
        using var request = new HttpRequestMessage(HttpMethod.Put, address) { Content = new ProgressContent(content, progress) };
        request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
        using var answer = await api.SendCheckedAsync(request, HttpCompletionOption.ResponseContentRead, cancellationToken);
    }

    /// <summary>Downloads a file into a stream; refuses to take more than <paramref name="most"/> bytes, whatever the guest had said of its size.</summary>
    public async Task<long> DownloadAsync(string session, string path, Stream target, long most, IProgress<long>? progress, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, Address(session, "/content", path));
        using var answer = await api.SendCheckedAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
        await using var body = await answer.Content.ReadAsStreamAsync(cancellationToken);
        var buffer = new byte[BufferBytes];
        long total = 0;
        for (int n; (n = await body.ReadAsync(buffer, cancellationToken)) > 0;)
        {
            total += n;
            if (total > most)
            {
                throw new UserException($"{path} is larger than {most} bytes; the rest was not taken");
            }

            await target.WriteAsync(buffer.AsMemory(0, n), cancellationToken);
            progress?.Report(total);
        }

        return total;
    }

    private static string Address(string session, string what, string path) => $"/v1/sessions/{SandboxApi.Escape(session)}/files{what}?path={Uri.EscapeDataString(path)}";

    private static RemoteFile Read(JsonNode entry) => new(
        SandboxApi.Text(entry, "path"), SandboxApi.Text(entry, "kind"), entry["size"]?.GetValue<long>() ?? 0, entry["mode"]?.GetValue<int>() ?? 0,
        entry["modifiedAt"]?.GetValue<DateTimeOffset>() ?? default);

    /// <summary>Sends a stream as it is, telling how far it is.</summary>
    private sealed class ProgressContent(Stream source, IProgress<long>? progress) : HttpContent
    {
        protected override async Task SerializeToStreamAsync(Stream stream, System.Net.TransportContext? context)
        {
            var buffer = new byte[BufferBytes];
            long total = 0;
            for (int n; (n = await source.ReadAsync(buffer)) > 0;)
            {
                await stream.WriteAsync(buffer.AsMemory(0, n));
                total += n;
                progress?.Report(total);
            }
        }

        protected override bool TryComputeLength(out long length)
        {
            length = source.CanSeek ? source.Length - source.Position : 0;
            return source.CanSeek;
        }
    }
}
