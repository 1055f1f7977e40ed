using System.Text.Json.Nodes;

namespace Sandbox.Cli.Api;

/// <summary>Pausing, resuming, checkpoints and forks of a session.</summary>
internal sealed class CheckpointApi(SandboxApi api)
{
    public Task<JsonNode> PauseAsync(string session, CancellationToken cancellationToken) => ChangeAsync($"{Address(session)}/pause", "paused", cancellationToken);

    public Task<JsonNode> ResumeAsync(string session, CancellationToken cancellationToken) => ChangeAsync($"{Address(session)}/resume", "running", cancellationToken);

    public Task<JsonNode> RollbackAsync(string session, string checkpoint, CancellationToken cancellationToken) =>
        ChangeAsync($"{Address(session)}/checkpoints/{SandboxApi.Escape(checkpoint)}/rollback", "running", cancellationToken);

    public Task<JsonNode> CreateAsync(string session, string? name, CancellationToken cancellationToken) =>
        api.SendAsync(HttpMethod.Post, $"{Address(session)}/checkpoints", name is null ? [] : new JsonObject { ["name"] = name }, cancellationToken, Guid.NewGuid().ToString("N"));

    public Task<JsonNode> DeleteAsync(string session, string checkpoint, CancellationToken cancellationToken) =>
        api.SendAsync(HttpMethod.Delete, $"{Address(session)}/checkpoints/{SandboxApi.Escape(checkpoint)}", null, cancellationToken);

    /// <summary>All checkpoints, oldest first.</summary>
    public async Task<JsonArray> ListAsync(string session, CancellationToken cancellationToken) =>
        (await api.GetAsync($"{Address(session)}/checkpoints", cancellationToken))["checkpoints"]!.AsArray();

    /// <summary>The id of the checkpoint that a text names.</summary>
    public async Task<string> FindAsync(string session, string text, CancellationToken cancellationToken) =>
        Find(await ListAsync(session, cancellationToken), text) ?? throw new UserException($"session {session} has no checkpoint '{text}'; see: sandbox session checkpoints {session}", ExitCodes.Failure);

    /// <summary>Copies of a session, once all of them run.</summary>
    public async Task<JsonNode[]> ForkAsync(string session, int count, CancellationToken cancellationToken)
    {
        var answer = await api.SendAsync(HttpMethod.Post, $"{Address(session)}/fork?wait=60", new JsonObject { ["count"] = count }, cancellationToken, Guid.NewGuid().ToString("N"));
        return await Task.WhenAll(answer["sessions"]!.AsArray().Select(s => api.SettleAsync(s!, cancellationToken)));
    }

    /// <summary>An id goes before a name, a name before a number: what a caller chose is not to be shadowed by what was counted.</summary>
    internal static string? Find(JsonArray checkpoints, string text)
    {
        JsonNode? By(string member) => checkpoints.FirstOrDefault(c => c![member]?.ToString() == text);
        return (By("id") ?? By("name") ?? By("number"))?["id"]?.ToString();
    }

    private static string Address(string session) => $"/v1/sessions/{SandboxApi.Escape(session)}";

    private async Task<JsonNode> ChangeAsync(string path, string wanted, CancellationToken cancellationToken)
    {
        var session = await api.SettleAsync(await api.SendAsync(HttpMethod.Post, path + "?wait=60", null, cancellationToken, Guid.NewGuid().ToString("N")), cancellationToken);
        return SandboxApi.Text(session, "state") is var state && state == wanted
            ? session
            : throw new UserException($"the session is not {wanted} but {state}: {session["cause"]?.ToString() ?? "the server does not say why"}", ExitCodes.SandboxFailed);
    }
}
