using System.IO.Pipelines;
using Sandbox.Isolation.Guest;

namespace Sandbox.Grains.Tests.Support;

/// <summary>A connection to a program that says back what it is told, and takes no more than 64 KiB that nobody reads.</summary>
internal sealed class TestPort : IGuestPort
{
    private readonly Pipe _echo = new(new PipeOptions(pauseWriterThreshold: 64 * 1024, resumeWriterThreshold: 1024, useSynchronizationContext: false));

    public ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken) => _echo.Reader.AsStream(leaveOpen: true).ReadAsync(buffer, cancellationToken);

    public async ValueTask WriteAsync(ReadOnlyMemory<byte> data, bool end, CancellationToken cancellationToken)
    {
        await _echo.Writer.WriteAsync(data, cancellationToken);
        if (end)
        {
            await _echo.Writer.CompleteAsync();
        }
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
