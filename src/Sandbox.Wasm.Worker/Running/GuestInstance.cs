using Sandbox.Wasm.Worker.Wasi;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Running;

/// <summary>A module that is instantiated in a store of its own, with limits that hold for it alone.</summary>
internal sealed class GuestInstance : IDisposable
{
    /// <summary>Elements of a table: CPython has ten thousand.</summary>
    private const uint MaxTable = 200_000;

    /// <summary>A memory that is not shown to us cannot be counted while it grows, so it may not grow far.</summary>
    private const long HiddenMemory = 64L << 20;

    private readonly Store _store;

    /// <summary>Instantiates; runs the module's own start function. In the guest's turn.</summary>
    /// <exception cref="WasmtimeException">It trapped, or does not fit the limits.</exception>
    public GuestInstance(Module module, Linker linker, object data, Run run, long memoryBytes)
    {
        var shown = module.Exports.Any(e => e is MemoryExport { Name: "memory" });
        _store = new Store(WasmEngine.Engine, data);
        try
        {
            Limit(shown ? memoryBytes : Math.Min(memoryBytes, HiddenMemory));
            _store.SetEpochDeadlineCallback(_ =>
            {
                run.Look();
                return 1;
            });
            _store.SetEpochDeadline(1);
            Instance = linker.Instantiate(_store, module);
            var memory = Instance.GetMemory("memory");
            run.Memory = memory is null ? () => HiddenMemory : memory.GetLength;
            WasiLinker.ProcessOf(data).Memory = memory;
        }
        catch
        {
            _store.Dispose();
            throw;
        }
    }

    public Instance Instance { get; }

    /// <summary>Sets how far its memory may grow, in bytes. On its own thread.</summary>
    public void Limit(long memoryBytes) => _store.SetLimits(memoryBytes, MaxTable, 1, 4, 1);

    public void Dispose() => _store.Dispose();
}

/// <summary>How a guest ended.</summary>
/// <param name="ExitCode">0 to 255.</param>
/// <param name="Signal">Signal that it was killed by, or 0.</param>
/// <param name="Trap">What it broke off for, or <see langword="null"/>.</param>
internal sealed record GuestEnd(int ExitCode, int Signal, string? Trap)
{
    /// <summary>What a program gets that aborts.</summary>
    private const int Aborted = 134;

    /// <summary>Reads it from what came out of the guest's last call.</summary>
    public static GuestEnd Of(Run run, WasiProcess process, Exception? e)
    {
        if (process.ExitCode is { } code)
        {
            return new GuestEnd(code & 0xff, 0, null);
        }

        if (run.Killed is > 0 and var signal)
        {
            return new GuestEnd(0, signal, null);
        }

        return e is null ? new GuestEnd(0, 0, null) : new GuestEnd(Aborted, 0, Reason(e));
    }

    private static string Reason(Exception e) => e switch
    {
        TrapException { Type: TrapCode.StackOverflow } => "its call stack is exhausted",
        TrapException { Type: TrapCode.Unreachable } => "it reached code that it declares unreachable (an abort or a failed assertion)",
        TrapException { Type: TrapCode.MemoryOutOfBounds } => "it accessed memory out of bounds",
        TrapException trap => $"it trapped: {trap.Type}",
        _ => e.Message.Split('\n')[0],
    };
}
