using Sandbox.Isolation.Images;

namespace Sandbox.Isolation.Wasm;

/// <summary>How this host runs WebAssembly.</summary>
public sealed record WasmOptions
{
    /// <summary>This host; names the runtime directory and the cgroups. <c>[a-z0-9-]{1,40}</c>.</summary>
    public required string HostId { get; init; }

    /// <summary>Where the worker's program is (<c>wasm-worker.dll</c>): beside this program, unless told otherwise.</summary>
    public string WorkerDirectory { get; init; } = Path.Combine(AppContext.BaseDirectory, "wasm-worker");

    /// <summary>Where template images are: all that the worker sees of the host's files, read-only.</summary>
    public string ImageRoot { get; init; } = ImageStore.DefaultRoot;

    /// <summary>Where the worker's socket and the records of machines are. Short: socket paths below it must fit 107 bytes.</summary>
    public string RuntimeRoot { get; init; } = "/run/sandbox";

    /// <summary>Where a worker keeps the modules that it has compiled; each its own, removed with it. On a disk, not in memory.</summary>
    public required string CacheDirectory { get; init; }

    /// <summary>First of the user ids that workers run as, each its own. Nobody else may use the 4096 from here on.</summary>
    public uint FirstUserId { get; init; } = 305_000;

    /// <summary>Memory of the worker beyond its machines', in MiB: the runtime, compiled code, Pythons that wait, a compiler at work.</summary>
    public int OverheadMiB { get; init; } = 1536;

    /// <summary>Processor time of the worker, in cores. 0: all of the host's.</summary>
    public double Cores { get; init; }

    /// <summary>How long the worker may take until it listens.</summary>
    public TimeSpan StartDeadline { get; init; } = TimeSpan.FromSeconds(30);
}
