using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Orleans.Concurrency;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Artifacts;

/// <summary>Files that executions made. They come from untrusted code: no browser is to run them as a page of this origin.</summary>
internal static class ArtifactEndpoints
{
    private const int ChunksAhead = 4;

    /// <summary>Types that are told as they are: a browser shows them or saves them, and runs nothing of them (of an SVG neither, in a sandbox without an origin).</summary>
    private static readonly HashSet<string> Harmless =
        new(StringComparer.Ordinal) { "image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml", "application/pdf", "text/plain", "application/json" };

    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        var links = new ArtifactLinks(options.TokenKey, TimeProvider.System);
        api.MapMethods("/sessions/{id}/artifacts/{artifact}", ["GET", "HEAD"], (string id, string artifact, HttpContext context, IGrainFactory grains) =>
            SendAsync(grains.Session<ISessionArtifacts>(id), Calls.Artifact(artifact), context))
            .WithSummary("Download a file that an execution made");

        // Open without a key: the token is one, for this file and an hour.
        api.MapMethods("/artifacts/{token}", ["GET", "HEAD"], (string token, HttpContext context, IGrainFactory grains) =>
        {
            var (tenant, session, artifact) = links.Open(token);
            TenantContext.Set(tenant);
            return SendAsync(grains.Session<ISessionArtifacts>(session), Calls.Artifact(artifact), context);
        }).WithSummary("Download a file by its signed address");
    }

    private static async Task<IResult> SendAsync(ISessionArtifacts session, string artifact, HttpContext context)
    {
        var found = await session.FindArtifactAsync(artifact);
        var response = context.Response;
        response.ContentType = Harmless.Contains(found.MimeType) ? found.MimeType is "text/plain" ? "text/plain; charset=utf-8" : found.MimeType : "application/octet-stream";
        response.ContentLength = found.Size;
        response.Headers.XContentTypeOptions = "nosniff";
        response.Headers.ContentDisposition = $"attachment; filename=\"{found.Name}\"";
        response.Headers.ContentSecurityPolicy = "sandbox; default-src 'none'";
        response.Headers.CacheControl = "private, no-store";
        response.Headers.ETag = $"\"{found.Sha256}\"";
        response.Headers["Referrer-Policy"] = "no-referrer";
        if (HttpMethods.IsHead(context.Request.Method))
        {
            return Results.Empty;
        }

        var ahead = new Queue<Task<Immutable<byte[]>>>();
        long asked = 0;
        for (long sent = 0; sent < found.Size;)
        {
            while (ahead.Count < ChunksAhead && asked < found.Size)
            {
                ahead.Enqueue(session.ReadArtifactAsync(artifact, asked));
                asked += ISessionArtifacts.ChunkBytes;
            }

            var chunk = (await ahead.Dequeue()).Value;
            if (chunk.Length != Math.Min(ISessionArtifacts.ChunkBytes, found.Size - sent))
            {
                throw new SandboxException(SandboxErrorCode.Internal, $"Artifact {artifact} is shorter than it was.");
            }

            await response.Body.WriteAsync(chunk, context.RequestAborted);
            sent += chunk.Length;
        }

        return Results.Empty;
    }
}
