using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Cluster;

/// <summary>What the cluster has: templates, hosts, and whether it can serve.</summary>
internal static class ClusterEndpoints
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/templates", async (IGrainFactory grains) =>
        {
            var hosts = await grains.GetGrain<ISchedulerGrain>(0).ListHostsAsync();
            var ids = hosts.SelectMany(h => h.Templates.Keys).Distinct().Order(StringComparer.Ordinal);
            return Results.Json(new { templates = await Task.WhenAll(ids.Select(t => grains.GetGrain<ITemplateGrain>(t).GetAsync())) }, ApiJson.Options);
        }).WithSummary("List templates");

        api.MapGet("/hosts", async (IGrainFactory grains) =>
            Results.Json(new { hosts = await grains.GetGrain<ISchedulerGrain>(0).ListHostsAsync() }, ApiJson.Options)).WithSummary("List hosts and what they can do");
    }

    public static void MapHealth(IEndpointRouteBuilder routes)
    {
        routes.MapGet("/healthz", () => Results.Json(new { status = "alive" }, ApiJson.Options)).ExcludeFromDescription();
        routes.MapGet("/readyz", async (IGrainFactory grains) =>
        {
            var problem = await ProblemAsync(grains);
            return Results.Json(
                new { status = problem is null ? "ready" : "not ready", problem }, ApiJson.Options, statusCode: problem is null ? StatusCodes.Status200OK : StatusCodes.Status503ServiceUnavailable);
        }).ExcludeFromDescription();
    }

    private static async Task<string?> ProblemAsync(IGrainFactory grains)
    {
        IReadOnlyList<HostReport> hosts;
        try
        {
            hosts = await grains.GetGrain<ISchedulerGrain>(0).ListHostsAsync();
        }
        catch (Exception e) when (e is Orleans.Runtime.OrleansException or TimeoutException or InvalidOperationException)
        {
            return "the cluster does not answer";
        }

        return hosts.Count == 0 ? "no host has reported yet"
            : hosts.Any(h => h.Backends.Any(b => b.Probing)) && !hosts.Any(h => h.Backends.Any(b => b.Usable)) ? "the isolation backend is being tried out; the first time takes some seconds"
            : !hosts.Any(h => h.Backends.Any(b => b.Usable)) ? $"no host has a usable isolation backend: {(hosts[0].Backends is [var first, ..] ? first.Reason : "it has none")}"
            : !hosts.Any(h => h.Templates.Count > 0) ? "no host has a template; build one with: sandbox image build"
            : null;
    }
}
