using System.Collections.Concurrent;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Modules;
using Sandbox.Wasm.Worker.Running;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>JavaScripts that are started and wait: what is left to do for a context is to say whose it is. Half a MiB each; none before the first one of an image is asked for.</summary>
internal sealed class JavaScriptPool(ModuleStore modules)
{
    /// <summary>So many wait, of each image.</summary>
    private const int Size = 8;

    /// <summary>Memory that one may take before it is anybody's.</summary>
    private const long NurseryMemory = 64L << 20;

    private readonly ConcurrentDictionary<string, ConcurrentQueue<JavaScriptInterpreter>> _ready = new(StringComparer.Ordinal);
    private readonly SemaphoreSlim _refilling = new(1);

    /// <summary>One for a machine: one that waits, or a new one.</summary>
    public JavaScriptInterpreter Take(WasmMachine machine, IReadOnlyDictionary<string, string> environment, string directory)
    {
        var ready = _ready.GetOrAdd(machine.ImageDirectory, _ => new ConcurrentQueue<JavaScriptInterpreter>());
        var interpreter = ready.TryDequeue(out var waiting) ? waiting : New(machine.ImageDirectory);
        try
        {
            interpreter.Adopt(machine, environment, directory);
            return interpreter;
        }
        catch
        {
            interpreter.Dispose();
            throw;
        }
        finally
        {
            if (ready.Count < Size)
            {
                _ = RefillAsync(machine.ImageDirectory, ready);
            }
        }
    }

    private JavaScriptInterpreter New(string imageDirectory) => new(modules.OfImage(imageDirectory, JavaScriptGuest.ModuleName), new Turns(1), new Allowance(NurseryMemory, 1, 1));

    private async Task RefillAsync(string imageDirectory, ConcurrentQueue<JavaScriptInterpreter> ready)
    {
        // Not before the one that was taken has had the processor to itself for a moment; and one at a time.
        await Task.Delay(10).ConfigureAwait(false);
        if (!await _refilling.WaitAsync(0).ConfigureAwait(false))
        {
            return;
        }

        try
        {
            while (ready.Count < Size)
            {
                ready.Enqueue(New(imageDirectory));
                await Task.Yield();
            }
        }
        catch (Exception e) when (e is ModuleException or WorkerException)
        {
            // Whoever needs one next is told.
        }
        finally
        {
            _refilling.Release();
        }
    }
}
