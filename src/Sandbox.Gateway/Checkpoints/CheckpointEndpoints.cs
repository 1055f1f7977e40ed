using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Http;
using Sandbox.Gateway.Sessions;

namespace Sandbox.Gateway.Checkpoints;

/// <summary>Pausing and resuming; checkpoints, going back to them, and copies of a session.</summary>
internal static class CheckpointEndpoints
{
    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        api.MapPost("/sessions/{id}/pause", (string id, HttpContext context, IGrainFactory grains) =>
            ChangeAsync(context, grains, () => grains.Session<ISessionCheckpoints>(id).PauseAsync(context.IdempotencyKey())))
            .Produces<SessionModel>().WithSummary("Save a session's machine and remove it; waits until it is paused, or ?wait= seconds (0 to 60)");

        api.MapPost("/sessions/{id}/resume", (string id, HttpContext context, IGrainFactory grains) =>
            ChangeAsync(context, grains, () => grains.Session<ISessionCheckpoints>(id).ResumeAsync(context.IdempotencyKey())))
            .Produces<SessionModel>().WithSummary("Bring a paused session back; waits until it runs, or ?wait= seconds (0 to 60)");

        api.MapPost("/sessions/{id}/checkpoints", async (string id, HttpContext context, IGrainFactory grains) =>
        {
            var body = await ApiJson.ReadAsync<CheckpointBody>(context, options);
            var made = await grains.Session<ISessionCheckpoints>(id).CreateCheckpointAsync(body.CheckedName(), context.IdempotencyKey());
            context.Response.Headers.Location = $"/v1/sessions/{id}/checkpoints/{made.Id}";
            return Results.Json(made, ApiJson.Options, statusCode: StatusCodes.Status201Created);
        }).TakesJson<CheckpointBody>().Produces<CheckpointInfo>(StatusCodes.Status201Created).WithSummary("Take a checkpoint of a running session");

        api.MapGet("/sessions/{id}/checkpoints", async (string id, IGrainFactory grains) =>
            Results.Json(new { checkpoints = await grains.Session<ISessionCheckpoints>(id).ListCheckpointsAsync() }, ApiJson.Options)).WithSummary("List checkpoints, oldest first");

        api.MapGet("/sessions/{id}/checkpoints/{checkpoint}", async (string id, string checkpoint, IGrainFactory grains) =>
        {
            Calls.Checkpoint(checkpoint);
            var all = await grains.Session<ISessionCheckpoints>(id).ListCheckpointsAsync();
            return Results.Json(all.FirstOrDefault(c => c.Id == checkpoint) ?? throw SandboxException.NotFound($"Session {id} has no checkpoint '{checkpoint}'."), ApiJson.Options);
        }).Produces<CheckpointInfo>().WithSummary("Look at a checkpoint");

        api.MapDelete("/sessions/{id}/checkpoints/{checkpoint}", async (string id, string checkpoint, IGrainFactory grains) =>
        {
            await grains.Session<ISessionCheckpoints>(id).DeleteCheckpointAsync(Calls.Checkpoint(checkpoint));
            return Results.NoContent();
        }).WithSummary("Delete a checkpoint");

        api.MapPost("/sessions/{id}/checkpoints/{checkpoint}/rollback", (string id, string checkpoint, HttpContext context, IGrainFactory grains) =>
            ChangeAsync(context, grains, () => grains.Session<ISessionCheckpoints>(id).RollbackAsync(Calls.Checkpoint(checkpoint), context.IdempotencyKey())))
            .Produces<SessionModel>().WithSummary("Put a session back to a checkpoint; waits until it runs, or ?wait= seconds (0 to 60)");

        api.MapPost("/sessions/{id}/fork", async (string id, HttpContext context, IGrainFactory grains) =>
        {
            var settling = new Settling(context, grains);
            var body = await ApiJson.ReadAsync<ForkBody>(context, options);
            var forks = await grains.Session<ISessionCheckpoints>(id).ForkAsync(body.CheckedCount(), context.IdempotencyKey());
            return Results.Json(new { sessions = (await settling.WaitAsync(forks)).Select(SessionModel.From) }, ApiJson.Options, statusCode: StatusCodes.Status201Created);
        }).TakesJson<ForkBody>().WithSummary("Make copies of a running session; waits until all of them run, or ?wait= seconds (0 to 60)");
    }

    private static async Task<IResult> ChangeAsync(HttpContext context, IGrainFactory grains, Func<Task<SessionInfo>> begin)
    {
        var settling = new Settling(context, grains);
        return Results.Json(SessionModel.From(await settling.WaitAsync(await begin())), ApiJson.Options);
    }
}
