using System.Collections.Concurrent;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Modules;
using Sandbox.Wasm.Worker.Running;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>
/// Pythons that are started and wait: CPython takes tens of milliseconds to its first line. Each was started by itself, so each has its own hash seed and its own random numbers. There is none before
/// the first Python of an image is asked for: a host that runs none pays for none.
/// </summary>
internal sealed class PythonPool(ModuleStore modules)
{
    public const string ModuleName = "python";

    /// <summary>So many wait, of each image.</summary>
    private const int Size = 2;

    /// <summary>Memory that one may take before it is anybody's.</summary>
    private const long NurseryMemory = 256L << 20;

    private readonly ConcurrentDictionary<string, ConcurrentQueue<PythonInterpreter>> _ready = new(StringComparer.Ordinal);
    private readonly SemaphoreSlim _refilling = new(1);

    /// <summary>One for a machine: one that waits, or a new one.</summary>
    public PythonInterpreter Take(WasmMachine machine, IReadOnlyDictionary<string, string> environment, string directory)
    {
        var ready = _ready.GetOrAdd(machine.ImageDirectory, _ => new ConcurrentQueue<PythonInterpreter>());
        PythonInterpreter? python;
        do
        {
            if (!ready.TryDequeue(out python))
            {
                python = New(machine.ImageDirectory);
            }
        }
        while (!python.Alive);

        try
        {
            python.WaitUntilReady();
            python.Adopt(machine, environment, directory);
            return python;
        }
        catch
        {
            python.Dispose();
            throw;
        }
        finally
        {
            _ = RefillAsync(machine.ImageDirectory, ready);
        }
    }

    private PythonInterpreter New(string imageDirectory) => new(modules.OfImage(imageDirectory, ModuleName), new Turns(1), new Allowance(NurseryMemory, 1, 1));

    private async Task RefillAsync(string imageDirectory, ConcurrentQueue<PythonInterpreter> ready)
    {
        // One at a time, and not before the one that was taken has had the processor to itself for a moment.
        await Task.Delay(50).ConfigureAwait(false);
        await _refilling.WaitAsync().ConfigureAwait(false);
        try
        {
            while (ready.Count < Size)
            {
                var python = New(imageDirectory);
                python.WaitUntilReady();
                ready.Enqueue(python);
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
