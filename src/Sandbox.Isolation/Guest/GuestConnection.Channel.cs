using Microsoft.Extensions.Logging;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Streams;
using Sandbox.Isolation.Guest.Validation;
using Sandbox.Isolation.Guest.Wire;

namespace Sandbox.Isolation.Guest;

// The life of the channel: connecting, frames coming in, cuts, joining again, the end.
public sealed partial class GuestConnection
{
    private readonly SemaphoreSlim _connecting = new(1, 1);
    private readonly ExecutionChannel _inputs;
    private GuestLink? _link;
    private Task _receiving = Task.CompletedTask;
    private ITimer? _reconnectTimer;
    private string? _bootId;
    private string _cutReason = "";

    /// <summary>What the agent calls its version, made fit to be shown.</summary>
    public string AgentVersion { get; private set; } = "";

    /// <summary>The channel has a byte stream at the moment: neither cut nor closed.</summary>
    public bool IsConnected => CurrentLink is not null;

    private GuestLink? CurrentLink
    {
        get
        {
            lock (_gate)
            {
                return _link;
            }
        }
    }

    /// <summary>Opens a byte stream and says hello on it until the guest answers.</summary>
    /// <param name="open">Opens the stream, within the same deadline; called again while it fails with an <see cref="IOException"/> or a socket error.</param>
    /// <param name="name">What logs and errors call this guest.</param>
    /// <param name="options">Deadlines.</param>
    /// <param name="logger">Where the channel's life is logged.</param>
    /// <param name="cancellationToken">Gives up.</param>
    /// <exception cref="GuestUnavailableException">The guest did not answer before the deadline, or answered with something illegal.</exception>
    public static async Task<GuestConnection> ConnectAsync(
        Func<CancellationToken, ValueTask<Stream>> open,
        string name,
        GuestConnectionOptions options,
        ILogger logger,
        CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(open);
        ArgumentNullException.ThrowIfNull(options);
        var connection = new GuestConnection(name, options, logger);
        try
        {
            await connection.JoinAsync(open, cancellationToken).ConfigureAwait(false);
            return connection;
        }
        catch
        {
            await connection.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    /// <summary>Says hello on a byte stream until the guest answers. The connection owns the stream from now on, whatever happens.</summary>
    /// <exception cref="GuestUnavailableException">The guest did not answer before the deadline, or answered with something illegal.</exception>
    public static Task<GuestConnection> ConnectAsync(Stream stream, string name, GuestConnectionOptions options, ILogger logger, CancellationToken cancellationToken) =>
        ConnectAsync(_ => ValueTask.FromResult(stream), name, options, logger, cancellationToken);

    /// <summary>
    /// Joins a new byte stream to the same guest. Requests under way fail; executions go on where the host left them, nothing lost or repeated;
    /// watches end. An execution the guest no longer knows fails with <see cref="GuestUnavailableException"/>. The connection owns the stream.
    /// </summary>
    /// <exception cref="GuestUnavailableException">
    /// The connection is closed (also by this call, if the guest is another one or breaks the protocol), or the guest did not answer before the
    /// deadline; in that last case another stream may be tried within <see cref="GuestConnectionOptions.ReconnectWindow"/>.
    /// </exception>
    public async Task ReconnectAsync(Stream stream, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(stream);
        try
        {
            await JoinAsync(_ => ValueTask.FromResult(stream), cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await stream.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    private async Task JoinAsync(Func<CancellationToken, ValueTask<Stream>> open, CancellationToken cancellationToken)
    {
        using var deadline = new CancellationTokenSource(_options.HelloDeadline, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, deadline.Token);
        GuestLink? link = null;
        var joined = false;
        await _connecting.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            await LeaveAsync().ConfigureAwait(false);
            link = new GuestLink(await OpenAsync(open, either.Token).ConfigureAwait(false));
            var hello = await link.ShakeHandsAsync(_options.HelloInterval, _time, either.Token).ConfigureAwait(false);
            var (going, orphans, watches, strangers) = Enter(link, hello);
            _receiving = link.Receiving = Task.Run(() => ReceiveAsync(link), CancellationToken.None);
            foreach (var execution in going)
            {
                await execution.ResumeAsync().WaitAsync(either.Token).ConfigureAwait(false);
            }

            joined = true;
            foreach (var orphan in orphans)
            {
                _ = Task.Run(orphan.DrainAsync, CancellationToken.None);
            }

            foreach (var end in strangers)
            {
                _ = Task.Run(end, CancellationToken.None);
            }

            foreach (var watch in watches)
            {
                _ = Task.Run(() => UnwatchAsync(watch), CancellationToken.None);
            }

            StartPinging(link);
        }
        catch (OperationCanceledException) when (either.IsCancellationRequested)
        {
            cancellationToken.ThrowIfCancellationRequested();
            throw new GuestUnavailableException($"Guest {Name} did not say hello within {_options.HelloDeadline.TotalSeconds:0.#} s ({link?.Attempts ?? 0} tries).");
        }
        catch (ProtocolException e)
        {
            CloseForGood(e.Message, logAsViolation: true);
            throw new GuestUnavailableException($"Guest {Name} broke the protocol: {e.Message}", e);
        }
        catch (Exception e) when (e is (IOException and not GuestUnavailableException) or ObjectDisposedException or System.Net.Sockets.SocketException)
        {
            throw new GuestUnavailableException($"The byte channel to guest {Name} cannot be used: {e.Message}", e);
        }
        finally
        {
            if (!joined && link is not null)
            {
                await link.DisposeAsync().ConfigureAwait(false);
            }

            _connecting.Release();
            if (!joined)
            {
                AwaitAnotherJoin();
            }
        }
    }

    private async Task<Stream> OpenAsync(Func<CancellationToken, ValueTask<Stream>> open, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return await open(cancellationToken).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
            {
                // The socket is not there yet: the machine is being started. The deadline ends this.
                await Task.Delay(TimeSpan.FromMilliseconds(20), _time, cancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Gives up the stream there is, if any, and waits until nothing more comes from it.</summary>
    private async Task LeaveAsync()
    {
        if (_closed.Task.IsCompleted)
        {
            throw Unavailable();
        }

        if (CurrentLink is { } link)
        {
            Cut(link, "a new byte stream takes its place", mayClose: false);
        }

        // Two streams must never be heard at once, also where a failed write gave the old one up.
        await _receiving.ConfigureAwait(false);
    }

    /// <summary>Compares what the guest still runs with what the host believes, and makes the new stream the current one.</summary>
    private (List<GuestExecution> Going, List<GuestExecution> Orphans, List<ulong> Watches, List<Func<Task>> Strangers) Enter(GuestLink link, Hello hello)
    {
        var listed = hello.Executions.ToDictionary(e => e.Stream);
        List<GuestExecution> lost = [];
        List<GuestExecution> orphans = [];
        List<GuestExecution> going;
        List<ulong> watches;
        List<Func<Task>> strangers;
        lock (_gate)
        {
            if (_closed.Task.IsCompleted)
            {
                throw Unavailable();
            }

            var first = _bootId is null;
            if (!first && hello.BootId != _bootId)
            {
                throw new ProtocolException("The guest has booted anew; what ran in it is lost.");
            }

            foreach (var execution in _executions.Values)
            {
                var (acknowledged, received, exited) = execution.Position;
                if (listed.Remove(execution.Id, out var survivor) && !exited)
                {
                    HelloRules.CheckSurvivor(survivor, execution.ExecutionId, acknowledged, received);
                }
                else if (survivor is null && !exited)
                {
                    lost.Add(execution);
                }
            }

            foreach (var execution in lost)
            {
                _executions.Remove(execution.Id);
                _streams.Remove(execution.Id);
            }

            // Started by a request whose answer was lost in the cut: nobody owns it.
            foreach (var (id, start) in _lostStarts)
            {
                if (listed.Remove(id, out var orphan))
                {
                    Log.Orphan(_logger, Name, id);
                    orphans.Add(Adopt(id, start, pid: 0, Math.Max(1, orphan.FirstRetainedSeq) - 1));
                }
            }

            // Before its first frame is heard: a repeated credit is legal now.
            foreach (var execution in _executions.Values)
            {
                execution.Stdin.Suspend();
            }

            _lostStarts.Clear();
            if (hello.Executions.Count > 0)
            {
                // Another host's, before this one: their numbers are taken.
                _nextStream = Math.Max(_nextStream, hello.Executions.Max(e => e.Stream) + 1);
            }

            strangers = first ? [] : EndStrangers(listed.Values);

            going = [.. _executions.Values];
            watches = [.. _streams.Values.OfType<ClosedWatch>().Select(w => w.Id)];
            _bootId = hello.BootId;
            AgentVersion = hello.AgentVersion;
            _link = link;
            _reconnectTimer?.Dispose();
            _reconnectTimer = null;
            if (first)
            {
                Log.Connected(_logger, Name, link.Attempts, AgentVersion, _bootId, hello.Executions.Count);
            }
            else
            {
                Log.Rejoined(_logger, Name, going.Count, lost.Count);
            }
        }

        foreach (var execution in lost)
        {
            execution.Fail(new GuestUnavailableException($"Guest {Name} no longer knows execution {execution.ExecutionId}."));
        }

        return (going, orphans, watches, strangers);
    }
}
