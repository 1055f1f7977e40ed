using System.Collections.Concurrent;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>The contexts of this guest by id.</summary>
internal sealed class ContextTable
{
    private readonly ConcurrentDictionary<string, LanguageContext> _contexts = new(StringComparer.Ordinal);

    public LanguageContext Create(CreateContext request)
    {
        if (request.ContextId.Length is 0 or > 64)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "A context id has 1 to 64 characters.");
        }

        if (_contexts.Count >= ProtocolLimits.MaxContexts)
        {
            throw new AgentException(ErrorCode.ResourceExhausted, $"There are {ProtocolLimits.MaxContexts} contexts already; remove one.");
        }

        if (_contexts.ContainsKey(request.ContextId))
        {
            throw new AgentException(ErrorCode.AlreadyExists, $"There is a context '{request.ContextId}' already.");
        }

        return _contexts[request.ContextId] = new LanguageContext(request);
    }

    public LanguageContext Get(string id) =>
        _contexts.TryGetValue(id, out var context) ? context : throw new AgentException(ErrorCode.NotFound, $"There is no context '{id}'.");

    public ContextList List()
    {
        var list = new ContextList();
        list.Contexts.AddRange(_contexts.Values.Select(c => c.Describe()));
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

    public void Reseed(ReadOnlySpan<byte> entropy)
    {
        foreach (var context in _contexts.Values)
        {
            context.Reseed(entropy);
        }
    }
}
