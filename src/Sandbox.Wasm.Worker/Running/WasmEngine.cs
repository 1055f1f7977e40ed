using Wasmtime;

namespace Sandbox.Wasm.Worker.Running;

/// <summary>The one engine of this process, and its clock: while guests run, its epoch advances every few milliseconds, and each guest looks up at that.</summary>
internal static class WasmEngine
{
    /// <summary>Stack of a guest, in bytes: all that Wasmtime allows without a larger stack for its asynchronous calls, which nothing here uses.</summary>
    public const int GuestStack = 2 << 20;

    /// <summary>Stack of a thread that runs a guest: beyond the guest's there is what the host's own functions need. Untouched pages cost nothing.</summary>
    public const int ThreadStack = GuestStack + (2 << 20);

    /// <summary>How often a running guest is looked at.</summary>
    public static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(5);

    private static readonly Lock Gate = new();
    private static readonly ManualResetEventSlim Awake = new(false);
    private static int Running;

    static WasmEngine()
    {
        Engine = new Engine(Configuration());
        new Thread(Advance, 128 * 1024) { IsBackground = true, Name = "epoch" }.Start();
    }

    public static Engine Engine { get; }

    /// <summary>Part of every compiled module's key: what is compiled by one version or for one processor is of no use to another.</summary>
    public static string Version => typeof(Engine).Assembly.GetName().Version?.ToString(3) ?? "0";

    /// <summary>A guest begins to run.</summary>
    public static void Enter()
    {
        lock (Gate)
        {
            if (++Running == 1)
            {
                Awake.Set();
            }
        }
    }

    /// <summary>A guest waits, or is over.</summary>
    public static void Leave()
    {
        lock (Gate)
        {
            if (--Running == 0)
            {
                Awake.Reset();
            }
        }
    }

    /// <summary>
    /// What compiles must be configured as what runs. Features that nothing here needs stay off: each is compiler code that hostile input reaches.
    /// </summary>
    private static Config Configuration() => new Config()
        .WithEpochInterruption(true)
        .WithMaximumStackSize(GuestStack)
        .WithWasmThreads(false)
        .WithMemory64(false)
        .WithMultiMemory(false)
        .WithGc(false)
        .WithFunctionReferences(false)
        .WithComponentModel(false)
        .WithParallelCompilation(true)
        .WithOptimizationLevel(OptimizationLevel.Speed);

    private static void Advance()
    {
        while (true)
        {
            Awake.Wait();
            Thread.Sleep(Tick);
            Engine.IncrementEpoch();
        }
    }
}
