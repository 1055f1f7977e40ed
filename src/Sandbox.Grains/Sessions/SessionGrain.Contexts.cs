using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;
using Sandbox.Grains.Sessions.Validation;
using Sandbox.Guest.Protocol;
using Request = Sandbox.Guest.Protocol.Request;

namespace Sandbox.Grains.Sessions;

/// <summary>Contexts: remembered by the session, made again in a new microVM when they are next used.</summary>
internal sealed partial class SessionGrain
{
    private readonly Dictionary<string, Task<ContextDocument>> _makingContexts = new(StringComparer.Ordinal);

    public async Task<ContextInfo> CreateContextAsync(CreateContextRequest request)
    {
        RequireExists();
        ArgumentNullException.ThrowIfNull(request);
        SessionValidation.CheckEnv("env", request.Env);
        ExecutionValidation.CheckUser("user", request.User);
        if (request.Cwd is not null)
        {
            ExecutionValidation.CheckPath("cwd", request.Cwd);
        }

        CheckLanguage(request.Language);
        var d = await RequireRunningAsync();
        if (d.Contexts.Count >= ProtocolLimits.MaxContexts)
        {
            throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"The session has {ProtocolLimits.MaxContexts} contexts, the most there may be. Remove one first.");
        }

        var context = new ContextDocument { Id = SandboxIds.NewContext(), Language = request.Language, Cwd = request.Cwd, User = request.User, Env = request.Env };
        return await MakeAsync(d, context);
    }

    public async Task<IReadOnlyList<ContextInfo>> ListContextsAsync()
    {
        var d = await RequireRunningAsync();
        var answer = await AskGuestAsync(d, new Request { ListContexts = new ListContexts() });
        var live = new Dictionary<string, Context>(StringComparer.Ordinal);
        foreach (var context in answer.Contexts?.Contexts ?? [])
        {
            live[context.ContextId] = context;
        }

        return [.. Document.Contexts.Select(c => InfoOf(c, live.GetValueOrDefault(c.Id)))];
    }

    public async Task<ContextInfo> RestartContextAsync(string contextId)
    {
        var d = await RequireRunningAsync();
        var context = FindContext(contextId);
        if (context.Generation != d.Generation)
        {
            return await MakeAsync(d, context);
        }

        var answer = await AskGuestAsync(d, new Request { RestartContext = new RestartContext { ContextId = contextId } });
        return InfoOf(context, answer.Context);
    }

    public async Task RemoveContextAsync(string contextId)
    {
        var d = await RequireRunningAsync();
        if (FindContext(contextId).Generation == d.Generation)
        {
            try
            {
                await AskGuestAsync(d, new Request { RemoveContext = new RemoveContext { ContextId = contextId } });
            }
            catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
            {
                // Gone already, which is what was asked for.
            }
        }

        await _session.UpdateAsync(s => s with { Contexts = [.. s.Contexts.Where(c => c.Id != contextId)] });
    }

    /// <summary>The id of a context that lives in the current microVM: the one named, or the session's own of a language.</summary>
    private async Task<string> EnsureContextAsync(SessionDocument d, string? contextId, string? language)
    {
        ContextDocument? context;
        var key = contextId ?? "default:" + (language ?? "python");
        if (contextId is not null)
        {
            context = FindContext(contextId);
        }
        else
        {
            var wanted = language ?? "python";
            CheckLanguage(wanted);
            context = d.Contexts.Find(c => c.IsDefault && c.Language == wanted)
                ?? new ContextDocument { Id = SandboxIds.NewContext(), Language = wanted, IsDefault = true };
        }

        if (context.Generation == d.Generation)
        {
            return context.Id;
        }

        // Two executions at once must not make two default contexts.
        if (!_makingContexts.TryGetValue(key, out var making))
        {
            _makingContexts[key] = making = MakeAndStoreAsync(d, context);
        }

        try
        {
            return (await making).Id;
        }
        finally
        {
            _makingContexts.Remove(key);
        }
    }

    private async Task<ContextInfo> MakeAsync(SessionDocument d, ContextDocument context) => InfoOf(await MakeAndStoreAsync(d, context), null);

    private async Task<ContextDocument> MakeAndStoreAsync(SessionDocument d, ContextDocument context)
    {
        var request = new CreateContext { ContextId = context.Id, Language = context.Language, Cwd = context.Cwd ?? "", User = context.User ?? "" };
        foreach (var (name, value) in Merge(EnvOf(d), context.Env))
        {
            request.Env[name] = value;
        }

        var made = context;
        try
        {
            var answer = await AskGuestAsync(d, new Request { CreateContext = request });
            made = made with { Cwd = context.Cwd ?? NullIfEmpty(answer.Context?.Cwd) };
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.AlreadyExists)
        {
            // Made before a crash that kept us from storing it.
        }

        made = made with { Generation = d.Generation };
        await _session.UpdateAsync(s => s with { Contexts = [.. s.Contexts.Where(c => c.Id != made.Id), made] });
        return made;
    }

    private void CheckLanguage(string? language)
    {
        if (language is null || !Document.Languages.Contains(language))
        {
            throw SandboxException.Invalid("language", $"Template '{Document.Template}' has no contexts of that language; it has: {string.Join(", ", Document.Languages)}.");
        }
    }

    private ContextDocument FindContext(string id) =>
        Document.Contexts.Find(c => c.Id == id) ?? throw SandboxException.NotFound($"There is no context '{(SandboxIds.IsContext(id) ? id : "?")}' in session '{Id}'.");

    private static string? NullIfEmpty(string? text) => string.IsNullOrEmpty(text) ? null : text;

    private static ContextInfo InfoOf(ContextDocument context, Context? live) =>
        new() { Id = context.Id, Language = context.Language, Cwd = NullIfEmpty(live?.Cwd) ?? context.Cwd ?? "", Busy = live?.Busy ?? false };
}
