using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Wasm;

namespace Sandbox.Conformance.Backends;

/// <summary>WebAssembly in one worker for all machines.</summary>
internal sealed class WasmSubject : Subject
{
    public override string Name => "wasm";

    public override string Template => "wasm";

    public override IReadOnlyList<string> Languages => ["python", "javascript"];

    protected override IIsolationBackend Create(string hostId, string directory) =>
        new WasmBackend(new WasmOptions { HostId = hostId, CacheDirectory = Path.Combine(directory, "cache") }, NullLogger<WasmBackend>.Instance);
}
