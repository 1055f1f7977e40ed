using System.IO.Pipelines;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Isolation.Null.Interpreter;

/// <summary>A connection to the one service that this guest has: it says back what it is told, and holds no more of it than a window.</summary>
internal sealed class NullPort : IGuestPort
{
    /// <summary>The service's port, as in RFC 862.</summary>
    public const int Echo = 7;

    private readonly Pipe _echo = new(new PipeOptions(pauseWriterThreshold: ProtocolLimits.PortWindow, resumeWriterThreshold: ProtocolLimits.PortWindow / 2, useSynchronizationContext: false));
    private readonly CancellationTokenSource _disposed = new();

    public async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _disposed.Token);
        try
        {
            return await _echo.Reader.AsStream(leaveOpen: true).ReadAsync(buffer, either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (_disposed.IsCancellationRequested)
        {
            throw new GuestPortResetException("The connection was closed.");
        }
    }

    public async ValueTask WriteAsync(ReadOnlyMemory<byte> data, bool end, CancellationToken cancellationToken)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _disposed.Token);
        try
        {
            await _echo.Writer.WriteAsync(data, either.Token).ConfigureAwait(false);
            if (end)
            {
                await _echo.Writer.CompleteAsync().ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is InvalidOperationException || (e is OperationCanceledException && _disposed.IsCancellationRequested))
        {
            throw new GuestPortResetException("The connection was closed, or its end was sent already.");
        }
    }

    public async ValueTask DisposeAsync() => await _disposed.CancelAsync().ConfigureAwait(false);
}
