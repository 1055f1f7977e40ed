using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Isolation.Wasm.Machine;

/// <summary>An execution that ran when the machine was saved: of a machine of this backend only the disk is saved, so it is gone.</summary>
internal sealed class LostExecution(string executionId) : IGuestExecution
{
    public string ExecutionId => executionId;

    public uint Pid => 0;

    public IAsyncEnumerable<ExecutionEvent> Events => throw Gone;

    private GuestUnavailableException Gone => new($"Execution {executionId} did not survive: of a WebAssembly machine only the files are saved.");

    public ValueTask AcknowledgeAsync(ulong seq, CancellationToken cancellationToken) => throw Gone;

    public ValueTask WriteStdinAsync(ReadOnlyMemory<byte> data, bool endOfFile, CancellationToken cancellationToken) => throw Gone;

    public ValueTask SignalAsync(int signal, CancellationToken cancellationToken) => throw Gone;

    public ValueTask ResizeAsync(uint columns, uint rows, CancellationToken cancellationToken) => throw Gone;
}
