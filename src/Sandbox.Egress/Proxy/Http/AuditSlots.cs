namespace Sandbox.Egress.Proxy.Http;

/// <summary>Bounds how many bodies of one session are held in memory for an auditor at a time; further requests wait. Thread-safe.</summary>
internal sealed class AuditSlots : IDisposable
{
    private const int Count = 16;
    private readonly SemaphoreSlim _free = new(Count, Count);

    /// <summary>Waits for a slot; disposing of it, once or more often, gives it back.</summary>
    public async Task<IDisposable> TakeAsync(CancellationToken cancellationToken)
    {
        await _free.WaitAsync(cancellationToken);
        return new Slot(this);
    }

    public void Dispose() => _free.Dispose();

    private sealed class Slot(AuditSlots slots) : IDisposable
    {
        private int _isFree;

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _isFree, 1) == 0)
            {
                try
                {
                    slots._free.Release();
                }
                catch (ObjectDisposedException)
                {
                    // The session is over.
                }
            }
        }
    }
}
