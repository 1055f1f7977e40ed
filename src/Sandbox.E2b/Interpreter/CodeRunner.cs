using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.Gateway;
using Sandbox.Gateway.Executions;
using Sandbox.Gateway.Http;

namespace Sandbox.E2b.Interpreter;

/// <summary><c>POST /execute</c>: runs code and answers with lines of JSON as it goes.</summary>
internal sealed class CodeRunner(IOutputSource outputs, GatewayOptions options, ILogger<CodeRunner> logger)
{
    private const int Interrupt = 2;

    /// <summary>Runs the code of a request.</summary>
    public async Task ExecuteAsync(DataCall call)
    {
        var context = call.Context;
        var body = await ApiJson.ReadAsync<ExecuteBody>(context, options);
        var executions = call.Session<ISessionExecutions>();
        var contextId = string.IsNullOrEmpty(body.ContextId) ? null : body.ContextId;
        if (contextId is not null && !SandboxIds.IsContext(contextId))
        {
            throw SandboxException.NotFound("There is no such context.");
        }

        var execution = await executions.StartExecutionAsync(
            new ExecutionRequest
            {
                Code = body.Code ?? throw SandboxException.Invalid("code", "There is no code."),
                ContextId = contextId,
                Language = contextId is null ? Languages.Of(body.Language) : null,
                Env = ApiJson.Texts("env_vars", body.EnvVars),

                // The answer has no place for them.
                Artifacts = false,
            },
            null);
        var lines = new CodeLines();
        try
        {
            await StreamAsync(call, execution, lines);
        }
        catch (Exception) when (context.RequestAborted.IsCancellationRequested && !lines.Ended)
        {
            // Who runs code and leaves does not want it any more. That is how the SDK's timeout works, too.
            await InterruptAsync(executions, execution.Id);
        }
    }

    /// <summary>Interrupts code; what has ended already is let be.</summary>
    public static async Task InterruptAsync(ISessionExecutions executions, string execution)
    {
        try
        {
            await executions.SignalAsync(execution, Interrupt);
        }
        catch (SandboxException e) when (e.Code is SandboxErrorCode.Conflict or SandboxErrorCode.NotFound)
        {
            // Over.
        }
    }

    private async Task StreamAsync(DataCall call, ExecutionInfo execution, CodeLines lines)
    {
        var response = call.Context.Response;
        var aborted = call.Context.RequestAborted;
        response.ContentType = "application/x-ndjson";
        response.Headers.CacheControl = "no-cache";
        response.Headers["X-Accel-Buffering"] = "no";
        call.Context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();

        // The reader's callbacks may take their time.
        if (call.Context.Features.Get<IHttpMinResponseDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        await response.Body.FlushAsync(aborted);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(aborted);
        var reader = CompletedOutput.ReadAsync(outputs, call.Grains, call.SessionId, execution.Id, 1, stop.Token).GetAsyncEnumerator(stop.Token);
        var next = Task.FromResult(false);
        try
        {
            while (true)
            {
                next = reader.MoveNextAsync().AsTask();
                while (!next.IsCompleted)
                {
                    try
                    {
                        await next.WaitAsync(options.KeepAlive, aborted);
                    }
                    catch (TimeoutException) when (!next.IsCompleted)
                    {
                        await SendAsync(CodeLines.KeepAlive());
                    }
                }

                if (!await next)
                {
                    break;
                }

                foreach (var line in lines.Of(reader.Current))
                {
                    await SendAsync(line);
                }
            }
        }
        catch (Exception e) when (!aborted.IsCancellationRequested)
        {
            // The answer has begun: what went wrong can only be said in its own form.
            var error = Problems.Understand(e);
            if (error.Code == SandboxErrorCode.Internal)
            {
                logger.LogError(e, "Following execution {Execution} failed", execution.Id);
            }

            foreach (var line in lines.Broken(error.Message))
            {
                await SendAsync(line);
            }
        }
        finally
        {
            await stop.CancelAsync();
            await ((Task)next).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await reader.DisposeAsync();
        }

        async Task SendAsync(byte[] line)
        {
            await response.Body.WriteAsync(line, aborted);
            await response.Body.FlushAsync(aborted);
        }
    }

    private sealed record ExecuteBody
    {
        public string? Code { get; init; }

        [JsonPropertyName("context_id")]
        public string? ContextId { get; init; }

        public string? Language { get; init; }

        [JsonPropertyName("env_vars")]
        public Dictionary<string, string>? EnvVars { get; init; }
    }
}
