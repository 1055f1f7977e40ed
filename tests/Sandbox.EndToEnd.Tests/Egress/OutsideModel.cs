using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Sandbox.TestSupport;

namespace Sandbox.EndToEnd.Tests.Egress;

/// <summary>
/// What looks like a model: it allows what says "please", has the owner asked where it says "perhaps", denies the rest, and does whatever the data tells it to that begins with "answer ", as a model might that can be talked to.
/// </summary>
internal sealed partial class OutsideModel : IAsyncDisposable
{
    private readonly WebApplication _app;

    private OutsideModel()
    {
        Url = $"http://127.0.0.1:{Loopback.FreePort()}";
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls(Url);
        _app = builder.Build();
        _app.MapPost("/v1/chat/completions", async (HttpContext context) =>
        {
            using var call = await JsonDocument.ParseAsync(context.Request.Body);
            var messages = call.RootElement.GetProperty("messages");
            var data = messages[1].GetProperty("content").GetString()!;
            Asked.Enqueue(data);
            var nonce = Nonce().Match(messages[0].GetProperty("content").GetString()!).Groups[1].Value;
            var told = Told().Match(data);
            var (verdict, category) = told.Success ? (told.Groups[1].Value, "ordinary") : data.Contains("please", StringComparison.Ordinal) ? ("allow", "ordinary") : data.Contains("perhaps", StringComparison.Ordinal) ? ("ask", "unclear") : ("deny", "unclear");
            var content = JsonSerializer.Serialize(new { nonce, verdict, category });
            return Results.Json(new { choices = new[] { new { index = 0, finish_reason = "stop", message = new { role = "assistant", content } } }, usage = new { total_tokens = 10 } });
        });
    }

    public string Url { get; }

    /// <summary>What it was shown.</summary>
    public ConcurrentQueue<string> Asked { get; } = new();

    public static async Task<OutsideModel> StartAsync()
    {
        var model = new OutsideModel();
        await model._app.StartAsync();
        return model;
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    [GeneratedRegex("exactly ([^,\\s]+),")]
    private static partial Regex Nonce();

    [GeneratedRegex("answer (allow|deny|ask)")]
    private static partial Regex Told();
}
