using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace Sandbox.Cli.Tests;

/// <summary>A server that answers what a test says, and remembers what it was asked.</summary>
internal sealed class CannedServer : IAsyncDisposable
{
    private readonly WebApplication _app;

    private CannedServer(WebApplication app) => _app = app;

    /// <summary>Answers by <c>METHOD /path</c>; several for one address are given in turn, the last one for ever.</summary>
    public ConcurrentDictionary<string, Queue<(int Status, string Body)>> Answers { get; } = new();

    /// <summary>What was asked: method, path with query, body; <c>no-wake</c> where the header says so.</summary>
    public ConcurrentQueue<string> Requests { get; } = new();

    public string Url => _app.Urls.First();

    public static async Task<CannedServer> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var server = new CannedServer(app);
        app.Run(server.AnswerAsync);
        await app.StartAsync();
        return server;
    }

    public void Answer(string request, string body, int status = 200)
    {
        var queue = Answers.GetOrAdd(request, _ => new());
        queue.Enqueue((status, body));
    }

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync();
        await _app.DisposeAsync();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        using var reader = new StreamReader(context.Request.Body);
        var body = await reader.ReadToEndAsync();
        var address = $"{context.Request.Method} {context.Request.Path}";
        var wake = context.Request.Headers["Sandbox-Wake"].ToString() is "false" ? " no-wake" : "";
        Requests.Enqueue($"{address}{context.Request.QueryString} {body}".TrimEnd() + wake);
        if (!Answers.TryGetValue(address, out var answers))
        {
            context.Response.StatusCode = StatusCodes.Status404NotFound;
            return;
        }

        var (status, text) = answers.Count > 1 ? answers.Dequeue() : answers.Peek();
        context.Response.StatusCode = status;
        context.Response.ContentType = "application/json";
        await context.Response.WriteAsync(text);
    }
}
