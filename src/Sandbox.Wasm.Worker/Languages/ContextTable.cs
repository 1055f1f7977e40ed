using System.Collections.Concurrent;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Machine;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>The contexts of one machine by id.</summary>
internal sealed class ContextTable(WasmMachine machine) : IDisposable
{
    private readonly ConcurrentDictionary<string, LanguageContext> _contexts = new(StringComparer.Ordinal);
    private readonly HashSet<string> _starting = new(StringComparer.Ordinal);
    private bool _disposed;

    public LanguageContext Create(CreateContext request)
    {
        if (request.ContextId.Length is 0 or > 64)
        {
            throw new WorkerException(ErrorCode.InvalidArgument, "A context id has 1 to 64 characters.");
        }

        lock (_starting)
        {
            if (_contexts.Count + _starting.Count >= ProtocolLimits.MaxContexts)
            {
                throw new WorkerException(ErrorCode.ResourceExhausted, $"There are {ProtocolLimits.MaxContexts} contexts already; remove one.");
            }

            if (_contexts.ContainsKey(request.ContextId) || !_starting.Add(request.ContextId))
            {
                throw new WorkerException(ErrorCode.AlreadyExists, $"There is a context '{request.ContextId}' already.");
            }
        }

        try
        {
            var context = new LanguageContext(request, machine);
            lock (_starting)
            {
                _contexts[request.ContextId] = context;
                if (_disposed)
                {
                    // The machine ended meanwhile.
                    context.Dispose();
                }
            }

            return context;
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
        _contexts.TryGetValue(id, out var context) ? context : throw new WorkerException(ErrorCode.NotFound, $"There is no context '{id}'.");

    public LanguageContext Restart(string id)
    {
        var context = Get(id);
        context.Restart();
        return context;
    }

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
            throw new WorkerException(ErrorCode.NotFound, $"There is no context '{id}'.");
        }

        context.Dispose();
    }

    public void Dispose()
    {
        lock (_starting)
        {
            _disposed = true;
            foreach (var context in _contexts.Values)
            {
                context.Dispose();
            }
        }
    }
}
