namespace Sandbox.Guest.Agent.Channel;

/// <summary>A listening socket; one connection at a time, and a new one takes the place of the old.</summary>
internal sealed class Listener : Endpoint
{
    private readonly IListener _listener;
    private readonly Lock _lock = new();
    private readonly SemaphoreSlim _arrived = new(0);
    private IConnection? _waiting;
    private IConnection? _current;

    public Listener(IListener listener)
    {
        _listener = listener;
        new Thread(Listen, 128 * 1024) { IsBackground = true, Name = "listen" }.Start();
    }

    public override Stream Accept()
    {
        while (true)
        {
            _arrived.Wait();
            lock (_lock)
            {
                // Of several that came meanwhile only the last one is still there.
                if (_waiting is { } connection)
                {
                    (_current, _waiting) = (connection, null);
                    return connection.Stream;
                }
            }
        }
    }

    public override void Ended(Stream stream)
    {
        lock (_lock)
        {
            _current = null;
        }

        stream.Dispose();
    }

    private void Listen()
    {
        while (true)
        {
            if (_listener.Accept() is not { } connection)
            {
                // That caller went away again, or there are no descriptors at the moment.
                Thread.Sleep(20);
                continue;
            }

            lock (_lock)
            {
                _waiting?.Stream.Dispose();
                _waiting = connection;
                _current?.Shutdown();
            }

            _arrived.Release();
        }
    }
}

/// <summary>A socket that listens.</summary>
internal interface IListener
{
    /// <summary>Waits for the next connection; <see langword="null"/> if that one failed.</summary>
    IConnection? Accept();
}

/// <summary>One connection.</summary>
internal interface IConnection
{
    /// <summary>Its bytes; disposing it ends the connection.</summary>
    Stream Stream { get; }

    /// <summary>Ends it in both directions, so that whoever reads learns of it. One that has ended is no error; one that was disposed is not asked.</summary>
    void Shutdown();
}
