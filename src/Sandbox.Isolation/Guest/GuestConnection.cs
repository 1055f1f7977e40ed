using Microsoft.Extensions.Logging;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Streams;
using Sandbox.Isolation.Guest.Validation;
using Sandbox.Isolation.Guest.Wire;

namespace Sandbox.Isolation.Guest;

/// <summary>
/// The host's end of a guest channel (docs/guest-protocol.md) over any duplex byte stream. All that the guest sends is checked (folder
/// <c>Validation</c>); the first breach closes the channel for good, says why in <see cref="Closed"/> and fails every caller with
/// <see cref="GuestUnavailableException"/>. What a guest can make the host hold is bounded: each execution by its output window,
/// each watch and each request by a fixed number. Safe for concurrent use.
/// </summary>
public sealed partial class GuestConnection : IGuest, IAsyncDisposable
{
    private readonly GuestConnectionOptions _options;
    private readonly ILogger _logger;
    private readonly TimeProvider _time;
    private readonly TaskCompletionSource<string> _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Lock _gate = new();
    private readonly Dictionary<ulong, GuestStream> _streams = [];
    private readonly Dictionary<ulong, GuestExecution> _executions = [];
    private readonly Queue<ulong> _ended = new();
    private readonly Dictionary<ulong, StartExecution> _lostStarts = [];
    private int _abandoned;
    private ulong _nextStream = 1;

    private GuestConnection(string name, GuestConnectionOptions options, ILogger logger)
    {
        Name = name;
        _options = options;
        _logger = logger;
        _time = options.TimeProvider;
        _inputs = new ExecutionChannel(this);
    }

    /// <summary>What logs and errors call this guest: the microVM's id.</summary>
    public string Name { get; }

    /// <inheritdoc/>
    public Task<string> Closed => _closed.Task;

    /// <inheritdoc/>
    public async Task<Response> RequestAsync(Request request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.OpCase is Request.OpOneofCase.Start or Request.OpOneofCase.Watch or Request.OpOneofCase.OpenPort or Request.OpOneofCase.None)
        {
            throw new ArgumentException($"A {request.OpCase} is not a unary request.", nameof(request));
        }

        var (_, response) = await AskAsync(request, static (_, _, _) => { }, cancellationToken).ConfigureAwait(false);
        return response;
    }

    /// <inheritdoc/>
    public async Task<IGuestExecution> StartExecutionAsync(StartExecution request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.WhatCase == StartExecution.WhatOneofCase.None || request.OutputWindow > ProtocolLimits.MaxOutputWindow)
        {
            throw new ArgumentException($"An execution needs a command or code, and a window of at most {ProtocolLimits.MaxOutputWindow} bytes.", nameof(request));
        }

        // A copy: the rules of the stream must not change because a caller uses its request again.
        var start = request.Clone();
        GuestExecution? execution = null;
        await AskAsync(
            new Request { Start = start },
            (gate, id, response) => execution = Adopt(id, start, response.Started.Pid),
            cancellationToken).ConfigureAwait(false);
        return execution!;
    }

    /// <inheritdoc/>
    public async Task<IGuestWatch> WatchAsync(Watch request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        GuestWatch? watch = null;
        await AskAsync(
            new Request { Watch = request.Clone() },
            (gate, id, _) => gate._streams[id] = watch = new GuestWatch(gate.CloseWatchAsync) { Id = id },
            cancellationToken).ConfigureAwait(false);
        return watch!;
    }

    /// <summary>Closes the channel for good, with a reason for people. Does nothing if it is closed.</summary>
    public void Close(string reason) => CloseForGood(reason, logAsViolation: false);

    /// <summary>Closes the channel and waits until nothing of it runs any more.</summary>
    public async ValueTask DisposeAsync()
    {
        Close("the host closed the channel");
        await _receiving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private GuestExecution Adopt(ulong id, StartExecution start, uint pid, ulong afterSeq = 0)
    {
        var execution = new GuestExecution(start, pid, _inputs, afterSeq) { Id = id };
        _streams[id] = execution;
        _executions[id] = execution;
        return execution;
    }

    /// <summary>Sends a request and waits for its answer. <paramref name="opened"/> runs under the lock before any later frame is looked at.</summary>
    private async Task<(ulong Stream, Response Response)> AskAsync(
        Request request,
        Action<GuestConnection, ulong, Response> opened,
        CancellationToken cancellationToken)
    {
        if (request.CalculateSize() > ProtocolLimits.MaxFrameBytes - 16)
        {
            throw new ArgumentException($"A {request.OpCase} request of {request.CalculateSize()} bytes is over the limit of a frame.", nameof(request));
        }

        cancellationToken.ThrowIfCancellationRequested();
        using var deadline = new CancellationTokenSource(_options.RequestTimeout, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, deadline.Token);
        var link = RequireLink();
        PendingRequest? pending = null;
        try
        {
            await SendOnAsync(link, () => Open(link, request, opened, out pending), either.Token).ConfigureAwait(false);
            var response = await pending!.Answer.WaitAsync(either.Token).ConfigureAwait(false);
            return response.ResultCase == Response.ResultOneofCase.Error ? throw new GuestException(response.Error) : (pending.Id, response);
        }
        catch (OperationCanceledException) when (either.IsCancellationRequested)
        {
            Abandon(pending);
            cancellationToken.ThrowIfCancellationRequested();
            throw new GuestUnavailableException($"Guest {Name} did not answer a {request.OpCase} request within {_options.RequestTimeout.TotalSeconds:0.#} s.");
        }
        catch (IOException e) when (e is not GuestUnavailableException)
        {
            throw new GuestUnavailableException($"The channel to guest {Name} was cut during a {request.OpCase} request.", e);
        }
    }

    private Frame Open(GuestLink link, Request request, Action<GuestConnection, ulong, Response> opened, out PendingRequest pending)
    {
        lock (_gate)
        {
            if (!ReferenceEquals(link, _link))
            {
                throw Unavailable();
            }

            var id = _nextStream++;
            pending = new PendingRequest(request, (p, response) => Answered(p, response, opened)) { Id = id };
            _streams.Add(id, pending);
            return new Frame { Stream = id, Request = request };
        }
    }

    /// <summary>A checked answer has come: the stream ends or becomes what it opened, in one step.</summary>
    private void Answered(PendingRequest pending, Response response, Action<GuestConnection, ulong, Response> opened)
    {
        lock (_gate)
        {
            _streams.Remove(pending.Id);
            if (pending.Abandoned)
            {
                _abandoned--;
                CleanUpAfter(pending, response);
                return;
            }

            if (response.ResultCase != Response.ResultOneofCase.Error)
            {
                opened(this, pending.Id, response);
            }
        }

        pending.Complete(response);
    }

    private void Abandon(PendingRequest? pending)
    {
        var tooMany = false;
        lock (_gate)
        {
            if (pending is null || pending.Abandoned)
            {
                return;
            }

            if (_streams.TryGetValue(pending.Id, out var stream) && ReferenceEquals(stream, pending))
            {
                pending.Abandoned = true;
                tooMany = ++_abandoned > GuestLimits.MaxAbandoned;
            }
            else if (pending.Answer.IsCompletedSuccessfully)
            {
                // The answer and the cancellation crossed: what the request opened has no owner.
                CleanUpAfter(pending, pending.Answer.Result);
            }
        }

        if (tooMany)
        {
            CloseForGood($"the guest left {GuestLimits.MaxAbandoned} requests unanswered", logAsViolation: false);
        }
    }

    /// <summary>Undoes what an answer that nobody waits for has opened in the guest. Called under the lock; works outside of it.</summary>
    private void CleanUpAfter(PendingRequest pending, Response response)
    {
        Log.LateAnswer(_logger, Name, pending.Id, pending.Request.OpCase.ToString());
        switch (response.ResultCase)
        {
            case Response.ResultOneofCase.Started:
                var orphan = _executions.GetValueOrDefault(pending.Id) ?? Adopt(pending.Id, pending.Request.Start, response.Started.Pid);
                Log.Orphan(_logger, Name, pending.Id);
                _ = Task.Run(orphan.DrainAsync);
                break;
            case Response.ResultOneofCase.Handle:
                Forget(new Request { CloseFile = new CloseFile { Handle = response.Handle.Handle } });
                break;
            case Response.ResultOneofCase.Empty when pending.Request.OpCase == Request.OpOneofCase.OpenPort:
                var unwanted = _streams.GetValueOrDefault(pending.Id) as GuestPort ?? AdoptPort(pending.Id);
                _ = Task.Run(unwanted.DisposeAsync);
                break;
            case Response.ResultOneofCase.Empty when pending.Request.OpCase == Request.OpOneofCase.Watch:
                _streams[pending.Id] = new ClosedWatch { Id = pending.Id };
                _ = Task.Run(() => UnwatchAsync(pending.Id));
                break;
        }
    }

    private async ValueTask CloseWatchAsync(GuestWatch watch)
    {
        lock (_gate)
        {
            if (!_streams.TryGetValue(watch.Id, out var stream) || !ReferenceEquals(stream, watch))
            {
                return;
            }

            _streams[watch.Id] = new ClosedWatch { Id = watch.Id };
        }

        await UnwatchAsync(watch.Id).ConfigureAwait(false);
    }

    private async Task UnwatchAsync(ulong id)
    {
        try
        {
            // The guest's answer ends the stream whatever it says: the channel is ordered.
            await AskAsync(new Request { Unwatch = new Unwatch { WatchStream = id } }, (gate, _, _) => gate._streams.Remove(id), CancellationToken.None).ConfigureAwait(false);
        }
        catch (GuestException)
        {
            lock (_gate)
            {
                _streams.Remove(id);
            }
        }
        catch (GuestUnavailableException)
        {
            // The stream stays known, so that what still comes on it is dropped and not taken for a breach.
        }
    }

    private void Forget(Request request) => _ = Task.Run(async () =>
    {
        try
        {
            await RequestAsync(request, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception e) when (e is GuestException or GuestUnavailableException)
        {
            // A courtesy to the guest; its failure harms only the guest.
        }
    });
}
