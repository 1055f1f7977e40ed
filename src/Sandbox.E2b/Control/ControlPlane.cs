using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Control;

/// <summary>The REST calls that make, find and end sandboxes, under both of the paths that SDKs use.</summary>
internal sealed class ControlPlane(SandboxCreation creation, SandboxVerbs verbs, Snapshots snapshots, Sandboxes sandboxes, E2bOptions options)
{
    private static readonly string[] Roots = ["/sandboxes", "/v2/sandboxes", "/snapshots", "/templates", "/v2/templates", "/v3/templates", "/volumes", "/volumecontent", "/secrets", "/teams"];

    /// <summary>Whether a path is one of these calls, so that its errors are written as E2B's are.</summary>
    public static bool Owns(PathString path) => Array.Exists(Roots, root => path.StartsWithSegments(root));

    /// <summary>Maps them.</summary>
    public void Map(IEndpointRouteBuilder endpoints)
    {
        var api = endpoints.MapGroup("").ExcludeFromDescription();
        foreach (var root in (string[])["/sandboxes", "/v2/sandboxes"])
        {
            api.MapPost(root, (Delegate)creation.CreateAsync);
            api.MapGet(root, (Delegate)ListAsync);
            api.MapPost(root + "/{id}/connect", verbs.ConnectAsync);
            api.MapGet(root + "/{id}/logs", () => Refused("Logs of a sandbox are the outputs of its executions: GET /v1/sessions/{id}/executions"));
        }

        api.MapGet("/sandboxes/{id}", verbs.GetAsync);
        api.MapDelete("/sandboxes/{id}", verbs.KillAsync);
        api.MapPost("/sandboxes/{id}/timeout", verbs.SetTimeoutAsync);
        api.MapPost("/sandboxes/{id}/refreshes", verbs.RefreshAsync);
        api.MapPost("/sandboxes/{id}/pause", verbs.PauseAsync);
        api.MapPost("/sandboxes/{id}/resume", verbs.ResumeAsync);
        api.MapPost("/sandboxes/{id}/fork", verbs.ForkAsync);
        api.MapGet("/sandboxes/{id}/metrics", verbs.MetricsAsync);
        api.MapPut("/sandboxes/{id}/network", verbs.NetworkAsync);
        api.MapPost("/sandboxes/{id}/snapshots", snapshots.CreateAsync);
        api.MapGet("/snapshots", (Delegate)snapshots.ListAsync);
        api.MapDelete("/templates/{id}", snapshots.DeleteAsync);
        foreach (var root in (string[])["/templates", "/v2/templates", "/v3/templates", "/volumes", "/volumecontent", "/secrets", "/teams"])
        {
            // Less than any of the above: routing prefers what is more exact.
            api.Map(root + "/{**rest}", () => Refused($"This server does not offer {root}. Templates are built with 'sandbox image build'."));
        }
    }

    private Task<IResult> ListAsync(HttpContext context)
    {
        var order = context.Request.Query["order"].ToString();
        if (order is not ("" or "asc" or "desc"))
        {
            throw SandboxException.Invalid("order", "'order' is asc or desc.");
        }

        // Unsaid, the newest come first, as they do at E2B.
        return Listing.PageAsync(context, sandboxes.ListAsync(isSealed: false, newestFirst: order != "asc", context.Request.Query["nextToken"]), Listing.Filter(context), s => SandboxDetail.From(s, options));
    }

    private static IResult Refused(string message) => throw new SandboxException(SandboxErrorCode.Unsupported, message);
}
