using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Sandbox.Abstractions;
using Sandbox.Gateway.Artifacts;
using Sandbox.Gateway.Http;

namespace Sandbox.Gateway.Executions;

/// <summary>Executions: start, look at, feed, signal.</summary>
internal static class ExecutionEndpoints
{
    private const int MaxStdinChunk = 64 * 1024;

    public static void Map(IEndpointRouteBuilder api, GatewayOptions options)
    {
        api.MapPost("/sessions/{id}/executions", async (string id, HttpContext context, IGrainFactory grains, IOutputSource outputs) =>
        {
            var body = await ApiJson.ReadAsync<StartExecutionBody>(context, options);
            var started = await grains.Session<ISessionExecutions>(id).StartExecutionAsync(body.ToRequest(), context.IdempotencyKey());
            context.Response.Headers.Location = $"/v1/sessions/{id}/executions/{started.Id}";
            if (EventStream.IsWanted(context))
            {
                await EventStream.WriteAsync(context, CompletedOutput.ReadAsync(outputs, grains, id, started.Id, 1, context.RequestAborted), SessionLinks.Of(options, id), options, StatusCodes.Status201Created);
                return Results.Empty;
            }

            return Results.Json(started, ApiJson.Options, statusCode: StatusCodes.Status201Created);
        }).TakesJson<StartExecutionBody>().Produces<ExecutionInfo>(StatusCodes.Status201Created)
            .WithSummary("Run a command (argv or shell) or code; with Accept: text/event-stream its output follows at once");

        api.MapGet("/sessions/{id}/executions", async (string id, HttpContext context, IGrainFactory grains) =>
            Results.Json(new { executions = await grains.Session<ISessionExecutions>(id).ListExecutionsAsync(context.QueryInt("limit", 100, 1, 1000)) }, ApiJson.Options))
            .WithSummary("List executions, newest first");

        api.MapGet("/sessions/{id}/executions/{execution}", async (string id, string execution, IGrainFactory grains) =>
            Results.Json(await grains.Session<ISessionExecutions>(id).GetExecutionAsync(Calls.Execution(execution)), ApiJson.Options))
            .Produces<ExecutionInfo>().WithSummary("Look at an execution");

        api.MapGet("/sessions/{id}/executions/{execution}/output", (string id, string execution, HttpContext context, IGrainFactory grains, IOutputSource outputs) =>
            OutputAsync(id, execution, context, grains, outputs, options))
            .WithSummary("Output from ?from= (or Last-Event-ID): a JSON page, or all of it live with Accept: text/event-stream");

        api.MapPost("/sessions/{id}/executions/{execution}/signal", async (string id, string execution, HttpContext context, IGrainFactory grains) =>
        {
            var body = await ApiJson.ReadAsync<SignalBody>(context, options);
            await grains.Session<ISessionExecutions>(id).SignalAsync(Calls.Execution(execution), body.Number);
            return Results.NoContent();
        }).TakesJson<SignalBody>().WithSummary("Send a signal to its process group");

        api.MapPost("/sessions/{id}/executions/{execution}/resize", async (string id, string execution, HttpContext context, IGrainFactory grains) =>
        {
            var body = await ApiJson.ReadAsync<PtyBody>(context, options);
            await grains.Session<ISessionExecutions>(id).ResizeAsync(Calls.Execution(execution), body.ToSize());
            return Results.NoContent();
        }).TakesJson<PtyBody>().WithSummary("Resize its terminal");

        api.MapPost("/sessions/{id}/executions/{execution}/stdin", (string id, string execution, HttpContext context, IGrainFactory grains) =>
            StdinAsync(id, execution, context, grains)).WithSummary("Write the body to its standard input; ?eof=true closes it");

        api.MapGet("/sessions/{id}/executions/{execution}/ws", (string id, string execution, HttpContext context, IGrainFactory grains, IOutputSource outputs) =>
            ExecutionSocket.ServeAsync(id, Calls.Execution(execution), context, grains, outputs, SessionLinks.Of(options, id)))
            .WithSummary("WebSocket: output out; stdin, signals and terminal sizes in");
    }

    private static async Task<IResult> OutputAsync(string id, string execution, HttpContext context, IGrainFactory grains, IOutputSource outputs, GatewayOptions options)
    {
        var info = await grains.Session<ISessionExecutions>(id).GetExecutionAsync(Calls.Execution(execution));
        var from = From(context);
        if (EventStream.IsWanted(context))
        {
            await EventStream.WriteAsync(context, CompletedOutput.ReadAsync(outputs, grains, id, execution, from, context.RequestAborted), SessionLinks.Of(options, id), options, StatusCodes.Status200OK);
            return Results.Empty;
        }

        var page = await grains.GetGrain<IOutputGrain>($"{info.HostId}/{id}/{execution}").ReadAsync(from, TimeSpan.Zero);
        var links = SessionLinks.Of(options, id);
        var events = page.Events.Select(e =>
        {
            var json = OutputModel.ToJson(e, links);
            json.Insert(0, "kind", OutputModel.NameOf(e.Kind));
            return json;
        });
        return Results.Json(new { events, nextSeq = page.NextSeq, complete = page.Complete, suspended = page.Suspended }, ApiJson.Options);
    }

    /// <summary>Where to begin: after the last event a reconnecting EventSource has seen, or where the query says.</summary>
    private static long From(HttpContext context)
    {
        string? last = context.Request.Headers["Last-Event-ID"];
        if (!string.IsNullOrEmpty(last))
        {
            return long.TryParse(last, out var seen) && seen is >= 0 and < long.MaxValue ? seen + 1 : throw SandboxException.Invalid("Last-Event-ID", "Last-Event-ID must be a sequence number.");
        }

        string? from = context.Request.Query["from"];
        return string.IsNullOrEmpty(from) ? 1 : long.TryParse(from, out var seq) && seq >= 1 ? seq : throw SandboxException.Invalid("from", "'from' must be a sequence number, 1 or more.");
    }

    private static async Task<IResult> StdinAsync(string id, string execution, HttpContext context, IGrainFactory grains)
    {
        var target = grains.Session<ISessionExecutions>(id);
        Calls.Execution(execution);
        var eof = context.QueryFlag("eof");
        var buffer = new byte[MaxStdinChunk];
        for (int n; (n = await context.Request.Body.ReadAtLeastAsync(buffer, buffer.Length, throwOnEndOfStream: false, context.RequestAborted)) > 0;)
        {
            await target.WriteStdinAsync(execution, buffer.AsMemory(0, n).ToArray(), false);
        }

        if (eof)
        {
            await target.WriteStdinAsync(execution, ReadOnlyMemory<byte>.Empty, true);
        }

        return Results.NoContent();
    }
}
