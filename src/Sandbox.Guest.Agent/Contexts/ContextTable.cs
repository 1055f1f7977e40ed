using System.Collections.Concurrent;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>The contexts of this guest by id.</summary>
internal sealed class ContextTable
{
    /// <summary>A context may only seem idle; then its reseeding waits for the code that has just begun, and this long at most.</summary>
    private static readonly TimeSpan ReseedDeadline = TimeSpan.FromSeconds(10);

    private readonly ConcurrentDictionary<string, LanguageContext> _contexts = new(StringComparer.Ordinal);
    private readonly HashSet<string> _starting = new(StringComparer.Ordinal);

    public LanguageContext Create(CreateContext request)
    {
        if (request.ContextId.Length is 0 or > 64)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "A context id has 1 to 64 characters.");
        }

        lock (_starting)
        {
            if (_contexts.Count + _starting.Count >= ProtocolLimits.MaxContexts)
            {
                throw new AgentException(ErrorCode.ResourceExhausted, $"There are {ProtocolLimits.MaxContexts} contexts already; remove one.");
            }

            if (_contexts.ContainsKey(request.ContextId) || !_starting.Add(request.ContextId))
            {
                throw new AgentException(ErrorCode.AlreadyExists, $"There is a context '{request.ContextId}' already.");
            }
        }

        try
        {
            return _contexts[request.ContextId] = new LanguageContext(request, TakeWarm(request));
        }
        finally
        {
            lock (_starting)
            {
                _starting.Remove(request.ContextId);
            }
        }
    }

    public LanguageContext Get(string id) =>
        _contexts.TryGetValue(id, out var context) ? context : throw new AgentException(ErrorCode.NotFound, $"There is no context '{id}'.");

    public ContextList List()
    {
        var list = new ContextList();
        list.Contexts.AddRange(_contexts.Values.Where(c => !c.Id.StartsWith(ProtocolLimits.WarmContextPrefix, StringComparison.Ordinal)).Select(c => c.Describe()));
        return list;
    }

    public void Remove(string id)
    {
        if (!_contexts.TryRemove(id, out var context))
        {
            throw new AgentException(ErrorCode.NotFound, $"There is no context '{id}'.");
        }

        context.Remove();
    }

    /// <summary>Gives every interpreter randomness of its own. Waits for the idle ones, which are what a clone wakes up with.</summary>
    public async Task ReseedAsync(byte[] entropy)
    {
        var seeding = _contexts.Values.Select(c => c.ReseedAsync(SeedFor(entropy, c.Id)));
        try
        {
            await Task.WhenAll(seeding).WaitAsync(ReseedDeadline).ConfigureAwait(false);
        }
        catch (TimeoutException)
        {
            throw new AgentException(ErrorCode.Conflict, "A context did not take its new seed in time.");
        }
    }

    /// <summary>An interpreter that was started before the golden snapshot and has run no user code, if one fits. Each is given away once.</summary>
    private Interpreter? TakeWarm(CreateContext request) =>
        _contexts.TryGetValue(ProtocolLimits.WarmContextPrefix + request.Language, out var warm)
        && warm.Suits(request)
        && _contexts.TryRemove(new KeyValuePair<string, LanguageContext>(warm.Id, warm))
            ? warm.GiveAway()
            : null;

    private static string SeedFor(byte[] entropy, string context) =>
        Convert.ToHexStringLower(System.Security.Cryptography.HMACSHA256.HashData(entropy, System.Text.Encoding.UTF8.GetBytes(context)));
}
