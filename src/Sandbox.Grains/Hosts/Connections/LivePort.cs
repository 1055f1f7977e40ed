using Sandbox.Abstractions;
using Sandbox.Isolation.Guest;

namespace Sandbox.Grains.Hosts.Connections;

/// <summary>One connection into a guest, as its callers use it: chunk by chunk, one reader and one writer at a time.</summary>
internal sealed class LivePort(string id, string sessionId, IGuestPort guest, TimeProvider clock)
{
    /// <summary>How long the guest may leave a chunk untaken.</summary>
    private static readonly TimeSpan WritePatience = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(20);
    private readonly SemaphoreSlim _reading = new(1, 1);
    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly CancellationTokenSource _closed = new();
    private long _lastUse = clock.GetTimestamp();
    private int _calls;

    public string Id => id;

    public string SessionId => sessionId;

    /// <summary>How long nobody has called it. Not at all while somebody is being served.</summary>
    public TimeSpan Unused => Volatile.Read(ref _calls) > 0 ? TimeSpan.Zero : clock.GetElapsedTime(Volatile.Read(ref _lastUse));

    public Task<PortChunk> ReadAsync(TimeSpan wait) => UseAsync(_reading, "read", async () =>
    {
        var patience = wait <= TimeSpan.Zero ? TimeSpan.FromMilliseconds(1) : wait < LongestWait ? wait : LongestWait;
        using var deadline = new CancellationTokenSource(patience);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, _closed.Token);
        var buffer = new byte[IPortGrain.MaxChunkBytes];
        try
        {
            var n = await guest.ReadAsync(buffer, either.Token);
            return new PortChunk(buffer[..n], n == 0, false);
        }
        catch (OperationCanceledException)
        {
            return new PortChunk([], false, _closed.IsCancellationRequested);
        }
        catch (IOException)
        {
            return new PortChunk([], false, true);
        }
    });

    public Task WriteAsync(ReadOnlyMemory<byte> data, bool end) => UseAsync(_writing, "written to", async () =>
    {
        using var deadline = new CancellationTokenSource(WritePatience, clock);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(deadline.Token, _closed.Token);
        try
        {
            await guest.WriteAsync(data, end, either.Token);
            return true;
        }
        catch (OperationCanceledException)
        {
            // How much of the chunk has arrived nobody knows: there is no going on.
            await CloseAsync();
            throw Gone(_closed.IsCancellationRequested ? "it was closed" : $"the program took nothing for {WritePatience.TotalMinutes:0} minutes");
        }
        catch (IOException e)
        {
            throw Gone(e.Message);
        }
    });

    /// <summary>Ends it on both sides.</summary>
    public async Task CloseAsync()
    {
        await _closed.CancelAsync();
        await guest.DisposeAsync();
    }

    private async Task<T> UseAsync<T>(SemaphoreSlim turn, string what, Func<Task<T>> use)
    {
        // A second caller would take bytes out of the middle of the first one's.
        if (!turn.Wait(0))
        {
            throw SandboxException.Conflict($"Connection {id} is being {what} by another call already.");
        }

        Interlocked.Increment(ref _calls);
        try
        {
            return await use();
        }
        finally
        {
            Volatile.Write(ref _lastUse, clock.GetTimestamp());
            Interlocked.Decrement(ref _calls);
            turn.Release();
        }
    }

    private SandboxException Gone(string why) => SandboxException.NotFound($"Connection {id} has ended: {why}.");
}
