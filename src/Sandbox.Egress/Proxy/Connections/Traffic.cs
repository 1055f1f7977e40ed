namespace Sandbox.Egress.Proxy.Connections;

/// <summary>What has moved over one connection, and how fast more may. Thread-safe.</summary>
/// <param name="up">The session's rate from the guest.</param>
/// <param name="down">The session's rate to the guest.</param>
/// <param name="time">Clock.</param>
internal sealed class Traffic(ByteRate up, ByteRate down, TimeProvider time)
{
    private long _up;
    private long _down;
    private long _last = time.GetTimestamp();

    /// <summary>Bytes that the guest sent.</summary>
    public long BytesUp => Volatile.Read(ref _up);

    /// <summary>Bytes that the guest got.</summary>
    public long BytesDown => Volatile.Read(ref _down);

    /// <summary>For how long nothing has moved.</summary>
    public TimeSpan Idle => time.GetElapsedTime(Volatile.Read(ref _last));

    /// <summary>How much to move in one piece.</summary>
    public int Piece(bool isUp, int wanted) => (isUp ? up : down).Piece(wanted);

    /// <summary>Notes bytes, and waits until more may be moved.</summary>
    public ValueTask AddAsync(bool isUp, int bytes, CancellationToken cancellationToken)
    {
        Volatile.Write(ref _last, time.GetTimestamp());
        if (isUp)
        {
            Interlocked.Add(ref _up, bytes);
            return up.TakeAsync(bytes, cancellationToken);
        }

        Interlocked.Add(ref _down, bytes);
        return down.TakeAsync(bytes, cancellationToken);
    }
}
