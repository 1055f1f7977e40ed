using Microsoft.Extensions.Logging;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;

namespace Sandbox.Isolation.Golden;

/// <summary>What a machine does before it becomes a golden snapshot, so that no clone has to do it again.</summary>
public static class WarmUp
{
    /// <summary>
    /// Imported while nobody's variables are there, and not bound to names; then the session's numbering begins anew. What a template does not have is passed over.
    /// </summary>
    private const string PythonImports =
        """
        import importlib
        for name in ("numpy", "pandas", "matplotlib.pyplot", "ssl", "json", "re"):
            try:
                importlib.import_module(name)
            except ImportError:
                pass
        get_ipython().reset(new_session=False)
        get_ipython().execution_count = 0
        """;

    /// <summary>Starts an interpreter of each language, lets it import what most code needs, and writes the disk back.</summary>
    /// <exception cref="IsolationException">The warm-up of a language failed.</exception>
    public static async Task RunAsync(IGuest guest, IReadOnlyList<string> languages, ILogger logger, CancellationToken cancellationToken)
    {
        foreach (var language in languages)
        {
            var id = ProtocolLimits.WarmContextPrefix + language;
            await guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = id, Language = language } }, cancellationToken);
            await RunAsync(guest, id, language == "python" ? PythonImports : "true", logger, cancellationToken);
            if (language != "python")
            {
                // Node's generators (V8's and OpenSSL's) cannot be seeded again from outside, so each clone starts a Node of its own; what it reads is in the page cache now.
                await guest.RequestAsync(new Request { RemoveContext = new RemoveContext { ContextId = id } }, cancellationToken);
            }
        }

        await guest.RequestAsync(new Request { Sync = new SyncDisks() }, cancellationToken);
    }

    private static async Task RunAsync(IGuest guest, string context, string code, ILogger logger, CancellationToken cancellationToken)
    {
        var execution = await guest.StartExecutionAsync(
            new StartExecution { ExecutionId = "warm-up-" + context, Code = new Code { ContextId = context, Source = code } }, cancellationToken);
        await foreach (var e in execution.Events.WithCancellation(cancellationToken))
        {
            if (e.EventCase == ExecutionEvent.EventOneofCase.Exited && e.Exited.ExitCode != 0)
            {
                throw new IsolationException($"the warm-up of {context} ended with exit code {e.Exited.ExitCode}");
            }

            if (e.EventCase == ExecutionEvent.EventOneofCase.CodeError)
            {
                logger.LogWarning("The warm-up of {Context} said: {Error}", context, e.CodeError.Value);
            }

            await execution.AcknowledgeAsync(e.Seq, cancellationToken);
        }
    }
}
