using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.Gateway;
using Sandbox.Gateway.Http;

namespace Sandbox.E2b.Interpreter;

/// <summary>Port 49999: code in contexts.</summary>
internal sealed class InterpreterPlane(GatewayOptions options, CodeRunner runner)
{
    private const string ContextsPrefix = "/contexts/";

    /// <summary>Serves a call.</summary>
    public Task HandleAsync(DataCall call) => SandboxGone.ServeAsync(call, Find);

    private Task? Find(DataCall call)
    {
        var method = call.Context.Request.Method;
        var path = call.Context.Request.Path.Value ?? "";
        var contexts = call.Session<ISessionContexts>();
        return (path, method) switch
        {
            ("/health", "GET" or "HEAD") => call.Context.Response.WriteAsync("OK", call.Context.RequestAborted),
            ("/execute", "POST") => runner.ExecuteAsync(call),
            ("/contexts", "GET") => ListAsync(call, contexts),
            ("/contexts", "POST") => CreateAsync(call, contexts),
            _ when path.StartsWith(ContextsPrefix, StringComparison.Ordinal) => (path[ContextsPrefix.Length..].Split('/'), method) switch
            {
                ([var id], "DELETE") => RemoveAsync(call, contexts, id),
                ([var id, "restart"], "POST") => RestartAsync(call, contexts, id),
                ([var id, "interrupt"], "POST") => InterruptAsync(call, id),
                _ => null,
            },
            _ => null,
        };
    }

    private static async Task ListAsync(DataCall call, ISessionContexts contexts) =>
        await call.Context.Response.WriteAsJsonAsync((await contexts.ListContextsAsync()).Select(Answer), call.Context.RequestAborted);

    private async Task CreateAsync(DataCall call, ISessionContexts contexts)
    {
        var body = await ApiJson.ReadAsync<CreateBody>(call.Context, options);
        var made = await contexts.CreateContextAsync(new CreateContextRequest
        {
            Language = Languages.Of(body.Language) ?? Languages.Default,
            Cwd = string.IsNullOrEmpty(body.Cwd) ? null : body.Cwd,
            User = call.User,
        });
        await call.Context.Response.WriteAsJsonAsync(Answer(made), call.Context.RequestAborted);
    }

    private static async Task RemoveAsync(DataCall call, ISessionContexts contexts, string id)
    {
        await contexts.RemoveContextAsync(id);
        call.Context.Response.StatusCode = StatusCodes.Status204NoContent;
    }

    private static async Task RestartAsync(DataCall call, ISessionContexts contexts, string id) =>
        await call.Context.Response.WriteAsJsonAsync(Answer(await contexts.RestartContextAsync(id)), call.Context.RequestAborted);

    /// <summary>Interrupts all that runs or waits in a context.</summary>
    private static async Task InterruptAsync(DataCall call, string id)
    {
        if ((await call.Session<ISessionContexts>().ListContextsAsync()).All(c => c.Id != id))
        {
            throw SandboxException.NotFound("There is no such context.");
        }

        var executions = call.Session<ISessionExecutions>();
        foreach (var execution in (await executions.ListExecutionsAsync(1000)).Where(e => e.ContextId == id && e.State != ExecutionState.Ended))
        {
            await CodeRunner.InterruptAsync(executions, execution.Id);
        }

        call.Context.Response.StatusCode = StatusCodes.Status204NoContent;
    }

    private static object Answer(ContextInfo context) => new { id = context.Id, language = context.Language, cwd = context.Cwd };

    private sealed record CreateBody
    {
        public string? Language { get; init; }

        public string? Cwd { get; init; }
    }
}
