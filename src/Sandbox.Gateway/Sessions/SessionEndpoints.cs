using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Sessions;

/// <summary>Sessions: create, look at, change, end.</summary>
internal static class SessionEndpoints
{
    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        api.MapPost("/sessions", (HttpContext context, IGrainFactory grains) => CreateAsync(context, grains, options))
            .TakesJson<CreateSessionBody>().Produces<SessionModel>(StatusCodes.Status201Created)
            .WithSummary("Create a session, new or from a checkpoint; waits until it runs, or ?wait= seconds (0 to 60)");
        api.MapGet("/sessions", ListAsync).WithSummary("List your sessions, oldest first: ?limit= &cursor= &state= &metadata.NAME=");
        api.MapGet("/sessions/{id}", async (string id, IGrainFactory grains) => Show(await grains.Session<ISessionGrain>(id).GetAsync()))
            .Produces<SessionModel>().WithSummary("Look at a session; never wakes or changes it");
        api.MapDelete("/sessions/{id}", async (string id, HttpContext context, IGrainFactory grains) =>
            Show(await grains.Session<ISessionGrain>(id).TerminateAsync(context.IdempotencyKey()))).Produces<SessionModel>().WithSummary("End a session and remove its machine, disk and outputs");
        api.MapPatch("/sessions/{id}", async (string id, HttpContext context, IGrainFactory grains) =>
        {
            var body = await ApiJson.ReadAsync<TimeoutsBody>(context, options);
            var session = grains.Session<ISessionGrain>(id);
            var info = await session.SetTimeoutsAsync(body.IdleTimeoutSeconds, body.MaxLifetimeSeconds, context.IdempotencyKey());
            return Show(body.RunLimitSeconds is { } limit ? await session.SetRunLimitAsync(limit, onlyLater: false) : info);
        }).TakesJson<TimeoutsBody>().Produces<SessionModel>().WithSummary("Change a session's timeouts");
        api.MapGet("/sessions/{id}/metrics", async (string id, IGrainFactory grains) => Results.Json(await grains.Session<ISessionGrain>(id).GetMetricsAsync(), ApiJson.Options))
            .Produces<SessionMetrics>().WithSummary("What the session's machine uses; wakes a paused session unless ?wake=false");
    }

    private static async Task<IResult> CreateAsync(HttpContext context, IGrainFactory grains, GatewayOptions options)
    {
        var settling = new Settling(context, grains);
        var body = await ApiJson.ReadAsync<CreateSessionBody>(context, options);
        var key = context.IdempotencyKey();

        // The key decides the id, so that a repeated call reaches the same grain, which then sees that it is a repeat.
        var id = key is null ? SandboxIds.NewSession() : SandboxIds.SessionFor(TenantContext.Current!, key);
        var info = await settling.WaitAsync(await grains.GetGrain<ISessionGrain>(id).CreateAsync(body.ToRequest(), key ?? id));
        return Results.Json(SessionModel.From(info), ApiJson.Options, statusCode: StatusCodes.Status201Created).WithLocation(context, $"/v1/sessions/{id}");
    }

    private static async Task<IResult> ListAsync(HttpContext context, IGrainFactory grains)
    {
        var limit = context.QueryInt("limit", 100, 1, 1000);
        string? cursor = context.Request.Query["cursor"];
        SessionState? wanted = null;
        if (context.Request.Query["state"].ToString() is { Length: > 0 } state)
        {
            wanted = Enum.TryParse<SessionState>(state, ignoreCase: true, out var parsed) && !char.IsAsciiDigit(state[0])
                ? parsed
                : throw SandboxException.Invalid("state", $"There is no state '{state}'; there are {string.Join(", ", Enum.GetNames<SessionState>().Skip(1)).ToLowerInvariant()}.");
        }

        var labels = context.Request.Query.Where(q => q.Key.StartsWith("metadata.", StringComparison.Ordinal)).ToDictionary(q => q.Key["metadata.".Length..], q => q.Value.ToString());
        var tenant = TenantContext.Current!;
        var shards = await Task.WhenAll(Enumerable.Range(0, ISessionIndexGrain.Shards).Select(s => grains.GetGrain<ISessionIndexGrain>($"{tenant}/{s}").ListAsync()));
        var entries = shards.SelectMany(s => s).Select(e => (e.SessionId, Order: $"{e.CreatedAt.UtcTicks:x16}.{e.SessionId}")).OrderBy(e => e.Order, StringComparer.Ordinal)
            .Where(e => string.IsNullOrEmpty(cursor) || string.CompareOrdinal(e.Order, cursor) > 0);

        var sessions = new List<SessionModel>();
        string? next = null;
        foreach (var batch in entries.Chunk(32))
        {
            var infos = await Task.WhenAll(batch.Select(e => GetOrNullAsync(grains, e.SessionId)));
            for (var i = 0; i < batch.Length; i++)
            {
                if (infos[i] is { } info && (wanted is null || info.State == wanted) && labels.All(l => info.Metadata.TryGetValue(l.Key, out var v) && v == l.Value))
                {
                    if (sessions.Count == limit)
                    {
                        return Results.Json(new { sessions, nextCursor = next }, ApiJson.Options);
                    }

                    sessions.Add(SessionModel.From(info));
                    next = batch[i].Order;
                }
            }
        }

        return Results.Json(new { sessions, nextCursor = (string?)null }, ApiJson.Options);
    }

    private static async Task<SessionInfo?> GetOrNullAsync(IGrainFactory grains, string id)
    {
        try
        {
            return await grains.GetGrain<ISessionGrain>(id).GetAsync();
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
        {
            // It ended between the index and now.
            return null;
        }
    }

    private static IResult Show(SessionInfo info) => Results.Json(SessionModel.From(info), ApiJson.Options);

    private static IResult WithLocation(this IResult result, HttpContext context, string location)
    {
        context.Response.Headers.Location = location;
        return result;
    }
}
