using System.Globalization;
using System.IO.Compression;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Net.Http.Headers;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.E2b.Envd.Filesystem;
using Sandbox.Gateway;
using Sandbox.Gateway.Files;

namespace Sandbox.E2b.Envd.Files;

/// <summary>Contents of files over REST: <c>/files</c> and <c>/files/compose</c>.</summary>
internal sealed class FilesService(GatewayOptions options)
{
    /// <summary>What a multipart body may have beside its files.</summary>
    private const long MultipartOverhead = 1 << 20;
    private const int MaxComposed = 1000;

    /// <summary>Serves a call; <see langword="null"/>: there is nothing here.</summary>
    public Task? TryHandleAsync(DataCall call, string path)
    {
        var method = call.Context.Request.Method;
        return path switch
        {
            "/files" when HttpMethods.IsGet(method) || HttpMethods.IsHead(method) => DownloadAsync(call),
            "/files" when HttpMethods.IsPost(method) => UploadAsync(call),
            "/files/compose" when HttpMethods.IsPost(method) => ComposeAsync(call),
            _ => null,
        };
    }

    private static async Task DownloadAsync(DataCall call)
    {
        var context = call.Context;
        var files = call.Session<ISessionFiles>();
        var opened = await files.OpenReadAsync(PathOf(context) ?? throw SandboxException.Invalid("path", "The path of the file is missing."), call.User);
        try
        {
            var response = context.Response;
            response.ContentType = "application/octet-stream";
            response.Headers.LastModified = opened.Entry.ModifiedAt.ToUniversalTime().ToString("R", CultureInfo.InvariantCulture);

            // Guest content must never be run as a page of this origin.
            response.Headers.XContentTypeOptions = "nosniff";
            response.Headers.ContentDisposition = "attachment";
            response.Headers.Vary = "Accept-Encoding";
            var gzip = WantsGzip(context.Request) && opened.Entry.Size > 0;
            if (gzip)
            {
                response.Headers.ContentEncoding = "gzip";
            }
            else
            {
                response.ContentLength = opened.Entry.Size;
            }

            if (HttpMethods.IsHead(context.Request.Method))
            {
                return;
            }

            await using var body = gzip ? new GZipStream(response.Body, CompressionLevel.Fastest, leaveOpen: true) : Stream.Null;
            var target = gzip ? body : response.Body;
            if (!await ChunkedFiles.ReadAsync(files, opened, chunk => target.WriteAsync(chunk, context.RequestAborted).AsTask()))
            {
                // It became shorter while it was read; the reader must notice.
                context.Abort();
            }
        }
        finally
        {
            await ChunkedFiles.CloseQuietlyAsync(files, opened.Handle);
        }
    }

    /// <summary>Only who asks for nothing else gets it compressed: fetch names gzip in every request, and on a near network it costs more than it saves.</summary>
    private static bool WantsGzip(HttpRequest request) => string.Equals(request.Headers.AcceptEncoding.ToString().Trim(), "gzip", StringComparison.OrdinalIgnoreCase);

    private async Task UploadAsync(DataCall call)
    {
        var context = call.Context;
        var request = context.Request;
        var metadata = FileMetadata.Of(request);
        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit)
        {
            limit.MaxRequestBodySize = options.MaxUploadBytes + MultipartOverhead;
        }

        await using var inflated = request.Headers.ContentEncoding.ToString() switch
        {
            "" or "identity" => null,
            "gzip" => new GZipStream(request.Body, CompressionMode.Decompress, leaveOpen: true),
            var other => throw new SandboxException(SandboxErrorCode.Unsupported, $"Content-Encoding {(other.Length > 32 ? other[..32] : other)}: only gzip and identity are understood."),
        };
        var body = inflated ?? request.Body;
        var files = call.Session<ISessionFiles>();
        var written = new List<FileEntry>();

        async Task WriteAsync(string path, Stream content)
        {
            await ChunkedFiles.WriteAsync(files, new OpenWriteRequest { Path = path, User = call.User, Metadata = metadata }, content, options.MaxUploadBytes, context.RequestAborted);
            written.Add(await files.StatAsync(path, call.User));
        }

        try
        {
            var type = MediaTypeHeaderValue.TryParse(request.ContentType, out var parsed) ? parsed : null;
            if (type?.MediaType.Equals("multipart/form-data", StringComparison.OrdinalIgnoreCase) == true)
            {
                await MultipartFiles.ReadAsync(type, body, PathOf(context), WriteAsync, context.RequestAborted);
            }
            else if (type?.MediaType.Equals("application/octet-stream", StringComparison.OrdinalIgnoreCase) == true)
            {
                await WriteAsync(PathOf(context) ?? throw SandboxException.Invalid("path", "The path of the file is missing: a body of application/octet-stream needs ?path="), body);
            }
            else
            {
                throw SandboxException.Invalid("Content-Type", "The body must be multipart/form-data or application/octet-stream.");
            }
        }
        catch (InvalidDataException e)
        {
            throw new SandboxException(SandboxErrorCode.InvalidArgument, "The body is not what its headers say: " + e.Message);
        }

        await context.Response.WriteAsJsonAsync(written.Select(Answer), context.RequestAborted);
    }

    private async Task ComposeAsync(DataCall call)
    {
        var context = call.Context;
        var body = await Gateway.Http.ApiJson.ReadAsync<ComposeBody>(context, options);
        if (body.SourcePaths is not { Count: > 0 and <= MaxComposed } sources || sources.Any(string.IsNullOrEmpty) || string.IsNullOrEmpty(body.Destination))
        {
            throw SandboxException.Invalid("source_paths", $"There must be 1 to {MaxComposed} source_paths, and a destination.");
        }

        var user = string.IsNullOrEmpty(body.Username) ? call.User : body.Username;
        var files = call.Session<ISessionFiles>();
        await ChunkedFiles.WriteAsync(files, new OpenWriteRequest { Path = body.Destination, User = user }, async writer =>
        {
            foreach (var source in sources)
            {
                var opened = await files.OpenReadAsync(source, user);
                try
                {
                    context.RequestAborted.ThrowIfCancellationRequested();
                    if (!await ChunkedFiles.ReadAsync(files, opened, chunk => writer.AddAsync(chunk.ToArray())))
                    {
                        throw SandboxException.Conflict($"{source} became shorter while it was read.");
                    }
                }
                finally
                {
                    await ChunkedFiles.CloseQuietlyAsync(files, opened.Handle);
                }
            }
        }, options.MaxUploadBytes);

        var made = await files.StatAsync(body.Destination, user);
        foreach (var source in sources.Distinct(StringComparer.Ordinal))
        {
            // A source can be the destination, and is that now.
            if ((await files.StatAsync(source, user)).Path != made.Path)
            {
                await files.RemoveAsync(source, recursive: false, user);
            }
        }

        await context.Response.WriteAsJsonAsync(Answer(made), context.RequestAborted);
    }

    private static object Answer(FileEntry file) => new
    {
        name = Entries.NameOf(file.Path),
        type = "file",
        path = file.Path,
        metadata = file.Metadata.Count > 0 ? file.Metadata : null,
    };

    private static string? PathOf(HttpContext context) => context.Request.Query["path"].ToString() is { Length: > 0 } path ? GuestPath.Plain(path) : null;

    private sealed record ComposeBody
    {
        [System.Text.Json.Serialization.JsonPropertyName("source_paths")]
        public List<string>? SourcePaths { get; init; }

        public string? Destination { get; init; }

        public string? Username { get; init; }
    }
}
