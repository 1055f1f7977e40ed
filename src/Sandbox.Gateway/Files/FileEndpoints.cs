using System.Globalization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Files;

/// <summary>
/// Files of a session. Paths are resolved inside the guest with the guest user's permissions; the host opens none of them, so there is no
/// path that could lead out.
/// </summary>
internal static class FileEndpoints
{
    private const int ChunksAhead = 4;
    private const string LabelHeader = "X-Metadata-";

    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        api.MapGet("/sessions/{id}/files", async (string id, HttpContext context, IGrainFactory grains) =>
        {
            var request = new ListFilesRequest
            {
                Path = context.QueryText("path"),
                Depth = context.QueryInt("depth", 1, 1, 32),
                Limit = context.QueryInt("limit", 1000, 1, 1000),
                After = context.Request.Query["after"],
                User = context.Request.Query["user"],
            };
            var page = await grains.Session<ISessionFiles>(id).ListAsync(request);
            return Results.Json(new { entries = page.Entries, more = page.More }, ApiJson.Options);
        }).WithSummary("List a directory: ?path= &depth= &limit= &after= &user=");

        api.MapGet("/sessions/{id}/files/stat", async (string id, HttpContext context, IGrainFactory grains) =>
            Results.Json(await grains.Session<ISessionFiles>(id).StatAsync(context.QueryText("path"), context.Request.Query["user"]), ApiJson.Options))
            .Produces<FileEntry>().WithSummary("What is at ?path=");

        api.MapMethods("/sessions/{id}/files/content", ["GET", "HEAD"], (string id, HttpContext context, IGrainFactory grains) => DownloadAsync(id, context, grains))
            .WithSummary("Download the file at ?path=");

        api.MapPut("/sessions/{id}/files/content", (string id, HttpContext context, IGrainFactory grains) => UploadAsync(id, context, grains, options))
            .WithSummary("Upload the body to ?path= (&mode= octal, &append=true; headers X-Metadata-NAME label it); whole or not at all unless appending");

        api.MapPost("/sessions/{id}/files/mkdir", async (string id, HttpContext context, IGrainFactory grains) =>
            Results.Json(await grains.Session<ISessionFiles>(id).MakeDirectoryAsync(context.QueryText("path"), context.Request.Query["user"]), ApiJson.Options))
            .Produces<FileEntry>().WithSummary("Make the directory ?path= and its parents");

        api.MapPost("/sessions/{id}/files/move", async (string id, HttpContext context, IGrainFactory grains) =>
            Results.Json(
                await grains.Session<ISessionFiles>(id).MoveAsync(context.QueryText("from"), context.QueryText("to"), context.QueryFlag("overwrite"), context.Request.Query["user"]),
                ApiJson.Options)).Produces<FileEntry>().WithSummary("Move ?from= to ?to= (&overwrite=true)");

        api.MapDelete("/sessions/{id}/files", async (string id, HttpContext context, IGrainFactory grains) =>
        {
            await grains.Session<ISessionFiles>(id).RemoveAsync(context.QueryText("path"), context.QueryFlag("recursive"), context.Request.Query["user"]);
            return Results.NoContent();
        }).WithSummary("Remove ?path= (&recursive=true for a directory that is not empty)");
    }

    private static async Task<IResult> DownloadAsync(string id, HttpContext context, IGrainFactory grains)
    {
        var files = grains.Session<ISessionFiles>(id);
        var opened = await files.OpenReadAsync(context.QueryText("path"), context.Request.Query["user"]);
        try
        {
            var size = opened.Entry.Size;
            context.Response.ContentType = "application/octet-stream";
            context.Response.ContentLength = size;
            context.Response.Headers.LastModified = opened.Entry.ModifiedAt.ToUniversalTime().ToString("R", CultureInfo.InvariantCulture);

            // Guest content must never be run as a page of this origin.
            context.Response.Headers.XContentTypeOptions = "nosniff";
            context.Response.Headers.ContentDisposition = "attachment";
            if (HttpMethods.IsHead(context.Request.Method))
            {
                return Results.Empty;
            }

            if (!await ChunkedFiles.ReadAsync(files, opened, chunk => context.Response.Body.WriteAsync(chunk, context.RequestAborted).AsTask()))
            {
                // The file became shorter while it was read; the promised length cannot be kept, and the reader must notice.
                context.Abort();
            }

            return Results.Empty;
        }
        finally
        {
            await ChunkedFiles.CloseQuietlyAsync(files, opened.Handle);
        }
    }

    private static async Task<IResult> UploadAsync(string id, HttpContext context, IGrainFactory grains, GatewayOptions options)
    {
        if (context.Request.ContentLength > options.MaxUploadBytes)
        {
            throw TooLarge(options);
        }

        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } limit)
        {
            limit.MaxRequestBodySize = options.MaxUploadBytes;
        }

        var files = grains.Session<ISessionFiles>(id);
        var request = new OpenWriteRequest
        {
            Path = context.QueryText("path"),
            User = context.Request.Query["user"],
            Mode = Mode(context),
            Append = context.QueryFlag("append"),
            Metadata = Labels(context),
        };
        await ChunkedFiles.WriteAsync(files, request, context.Request.Body, options.MaxUploadBytes, context.RequestAborted);
        return Results.Json(await files.StatAsync(request.Path, request.User), ApiJson.Options);
    }

    /// <summary>Labels, from headers <c>X-Metadata-NAME</c>. Names of headers know no case, so those of labels given here are in lower case.</summary>
    private static Dictionary<string, string> Labels(HttpContext context) => context.Request.Headers
        .Where(h => h.Key.Length > LabelHeader.Length && h.Key.StartsWith(LabelHeader, StringComparison.OrdinalIgnoreCase))
        .ToDictionary(h => h.Key[LabelHeader.Length..].ToLowerInvariant(), h => h.Value.ToString(), StringComparer.Ordinal);

    private static int? Mode(HttpContext context)
    {
        string? text = context.Request.Query["mode"];
        if (string.IsNullOrEmpty(text))
        {
            return null;
        }

        return text.Length <= 4 && text.All(c => c is >= '0' and <= '7') ? Convert.ToInt32(text, 8) : throw SandboxException.Invalid("mode", "'mode' must be octal permissions such as 0644.");
    }

    private static SandboxException TooLarge(GatewayOptions options) => new(SandboxErrorCode.TooLarge, $"A file has at most {options.MaxUploadBytes} bytes here.");
}
