using System.Globalization;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Executions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Egress;

/// <summary>What a session may reach outside, and what it did.</summary>
internal static class EgressEndpoints
{
    private const int MostLines = 1000;
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(20);

    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        api.MapGet("/sessions/{id}/egress", async (string id, IGrainFactory grains) =>
            Results.Json(await grains.Session<ISessionEgress>(id).GetEgressAsync(), ApiJson.Options)).Produces<SessionEgress>().WithSummary("A session's egress policy, and the sums of its traffic");

        api.MapPut("/sessions/{id}/egress", async (string id, HttpContext context, IGrainFactory grains) =>
        {
            var policy = await ApiJson.ReadAsync<EgressPolicy>(context, options);
            return Results.Json(await grains.Session<ISessionEgress>(id).SetEgressAsync(policy, context.IdempotencyKey()), ApiJson.Options);
        }).TakesJson<EgressPolicy>().Produces<SessionEgress>().WithSummary("Put another egress policy in force; connections that it permits go on");

        api.MapGet("/sessions/{id}/egress/log", (string id, HttpContext context, IGrainFactory grains) => EventStream.IsWanted(context)
            ? FollowAsync(id, context, grains, options)
            : ReadAsync(id, context, grains)).Produces<EgressPage>()
            .WithSummary("Lines of the egress log from number ?from= on, at most ?max= (1000); waits ?wait= seconds (0 to 20) for the first. With Accept: text/event-stream: as they are written");

        api.MapGet("/sessions/{id}/egress/suggestion", async (string id, IGrainFactory grains) =>
            Results.Json(await grains.Session<ISessionEgress>(id).SuggestEgressAsync(), ApiJson.Options)).Produces<EgressSuggestion>().WithSummary("The policy that lets through what the log says was denied");

        api.MapPost("/sessions/{id}/egress/decisions", async (string id, HttpContext context, IGrainFactory grains) =>
        {
            var body = await ApiJson.ReadAsync<DecisionBody>(context, options);
            return Results.Json(await grains.Session<ISessionEgress>(id).DecideEgressAsync(body.ToDecision()), ApiJson.Options);
        }).TakesJson<DecisionBody>().Produces<SessionEgress>().WithSummary("Answer an auditor that asked: allow or deny requests like it from now on");

        api.MapGet("/egress", async (IGrainFactory grains) => Results.Json(await Mine(grains).GetDefaultAsync(), ApiJson.Options)).Produces<EgressPolicy>().WithSummary("The policy of your sessions that name none");

        api.MapPut("/egress", async (HttpContext context, IGrainFactory grains) =>
            Results.Json(await Mine(grains).SetDefaultAsync(await ApiJson.ReadAsync<EgressPolicy>(context, options)), ApiJson.Options))
            .TakesJson<EgressPolicy>().Produces<EgressPolicy>().WithSummary("Set the policy of your sessions that name none, for those made from now on");

        api.MapGet("/egress/presets", async (IGrainFactory grains) => Results.Json(new { presets = await Mine(grains).ListPresetsAsync() }, ApiJson.Options)).WithSummary("Names that policies may use for the hosts that a tool needs");

        api.MapGet("/egress/authority", async (IGrainFactory grains) => Results.Text(await Mine(grains).GetAuthorityAsync(), "application/x-pem-file")).WithSummary("The certificate that your sessions see intercepted sites signed with (PEM)");
    }

    public static ITenantEgressGrain Mine(IGrainFactory grains) => grains.GetGrain<ITenantEgressGrain>(TenantContext.Current!);

    private static async Task<IResult> ReadAsync(string id, HttpContext context, IGrainFactory grains)
    {
        var wait = TimeSpan.FromSeconds(context.QueryInt("wait", 0, 0, (int)LongestWait.TotalSeconds));
        return Results.Json(await grains.Session<ISessionEgress>(id).ReadEgressLogAsync(From(context), context.QueryInt("max", 100, 1, MostLines), wait), ApiJson.Options);
    }

    /// <summary>The number of a line is the event's id, so a reconnecting reader goes on where it was.</summary>
    private static async Task<IResult> FollowAsync(string id, HttpContext context, IGrainFactory grains, GatewayOptions options)
    {
        var log = grains.Session<ISessionEgress>(id);
        var from = long.TryParse(context.Request.Headers["Last-Event-ID"], NumberStyles.None, CultureInfo.InvariantCulture, out var last) ? last + 1 : From(context);
        var page = await log.ReadEgressLogAsync(from, MostLines, TimeSpan.Zero);
        context.Response.ContentType = "text/event-stream";
        context.Response.Headers.CacheControl = "no-cache";
        context.Response.Headers["X-Accel-Buffering"] = "no";
        context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
        var wait = options.KeepAlive < LongestWait ? options.KeepAlive : LongestWait;
        while (true)
        {
            var text = new StringBuilder();
            foreach (var record in page.Records)
            {
                text.Append(CultureInfo.InvariantCulture, $"id: {record.Seq}\nevent: egress\ndata: {JsonSerializer.Serialize(record, ApiJson.Options)}\n\n");
            }

            await context.Response.WriteAsync(text.Length == 0 ? ": still here\n\n" : text.ToString(), context.RequestAborted);
            await context.Response.Body.FlushAsync(context.RequestAborted);
            from = page.Next;
            try
            {
                page = await log.ReadEgressLogAsync(from, MostLines, wait);
            }
            catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
            {
                return Results.Empty;
            }

            if (page.Records.Count == 0 && (await grains.Session<ISessionGrain>(id).GetAsync()).State is SessionState.Terminated or SessionState.Failed)
            {
                return Results.Empty;
            }
        }
    }

    private static long From(HttpContext context) => context.QueryInt("from", 1, 1, int.MaxValue);

    internal sealed record DecisionBody
    {
        public string? Host { get; init; }

        public string? Method { get; init; }

        public string? Path { get; init; }

        public bool? Allow { get; init; }

        public EgressDecision ToDecision() => new(
            Host ?? throw SandboxException.Invalid("host", "'host' is required: the host name that the auditor asked about."),
            Method, Path, Allow ?? throw SandboxException.Invalid("allow", "'allow' is required: true or false."));
    }
}
