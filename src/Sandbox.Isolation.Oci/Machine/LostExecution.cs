using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Isolation.Oci.Machine;

/// <summary>An execution of a machine of which only the disk was saved: it fails at the first read.</summary>
internal sealed class LostExecution(string executionId) : IGuestExecution
{
    public string ExecutionId => executionId;

    public uint Pid => 0;

    public IAsyncEnumerable<ExecutionEvent> Events => Fail();

    public ValueTask AcknowledgeAsync(ulong seq, CancellationToken cancellationToken) => throw Gone();

    public ValueTask WriteStdinAsync(ReadOnlyMemory<byte> data, bool endOfFile, CancellationToken cancellationToken) => throw Gone();

    public ValueTask SignalAsync(int signal, CancellationToken cancellationToken) => throw Gone();

    public ValueTask ResizeAsync(uint columns, uint rows, CancellationToken cancellationToken) => throw Gone();

    private GuestUnavailableException Gone() => new($"Execution {executionId} ended when its machine was saved: only the disk of a container on the host's kernel is kept.");

    private async IAsyncEnumerable<ExecutionEvent> Fail()
    {
        await Task.Yield();
        if (executionId is not null)
        {
            throw Gone();
        }

        yield break;
    }
}
