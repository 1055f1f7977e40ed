using Sandbox.Isolation.Guest.Wire;

namespace Sandbox.Isolation.Guest;

/// <summary>
/// A guest's channel while its machine is saved: the host writes nothing until this is disposed. Whoever wants to write meanwhile waits, acknowledgements included.
/// </summary>
public sealed class GuestQuiet : IDisposable
{
    private readonly GuestConnection _connection;
    private readonly GuestLink _link;
    private readonly Task _turn;
    private int _disposed;

    internal GuestQuiet(GuestConnection connection, GuestLink link, Task turn) => (_connection, _link, _turn) = (connection, link, turn);

    /// <summary>The guest has answered: it has taken everything that was sent, and no half frame is on its way to it.</summary>
    public bool Answered { get; internal set; }

    /// <summary>Bytes that have come from the guest. Where a stopped machine's do not grow any more, nothing of it is on its way.</summary>
    public long Received => _link.Received;

    /// <summary>What a host that restores this guest must know. Taken while its machine stands still.</summary>
    public GuestMemo Remember() => _connection.Remember();

    /// <summary>Lets the host write again.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            // A turn that has not come yet (the guest does not read) is given on as soon as it comes.
            _turn.ContinueWith(_ => _link.ReleaseTurn(), CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }
}
