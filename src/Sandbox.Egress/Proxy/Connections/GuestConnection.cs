using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using Sandbox.Abstractions;

namespace Sandbox.Egress.Proxy.Connections;

/// <summary>One connection of a guest, from its acceptance to its end. What is done with it is <see cref="ConnectionServer"/>'s; this is what is known of it, and how it is ended.</summary>
internal sealed class GuestConnection : IDisposable
{
    private readonly CancellationTokenSource _ended = new();
    private readonly ConcurrentDictionary<ActiveRequest, bool> _requests = [];
    private readonly long _started;
    private Subject? _subject;
    private ConnectionEnd? _end;
    private int _requestCount;

    public GuestConnection(SessionProxy session, AcceptedConnection accepted, Traffic traffic)
    {
        (Session, Socket, Destination, Traffic) = (session, accepted.Socket, accepted.Destination, traffic);
        _started = session.Host.Time.GetTimestamp();
        Ended = _ended.Token;
    }

    public SessionProxy Session { get; }

    public Socket Socket { get; }

    public IPEndPoint Destination { get; }

    public Traffic Traffic { get; }

    /// <summary>It passes without being looked into.</summary>
    public bool IsSpliced { get; set; }

    /// <summary>Something that is refused unless the policy is only tried out.</summary>
    public string? Tolerated { get; set; }

    /// <summary>It was ended by us.</summary>
    public CancellationToken Ended { get; }

    /// <summary>Why, if it was.</summary>
    public ConnectionEnd? End => Volatile.Read(ref _end);

    /// <summary>What it is judged by; unset before its first bytes.</summary>
    public Subject? Subject => Volatile.Read(ref _subject);

    /// <summary>Requests that it carried, well-formed or not.</summary>
    public int RequestCount => Volatile.Read(ref _requestCount);

    /// <summary>Runs until it is over.</summary>
    public Task Completion { get; set; } = Task.CompletedTask;

    /// <summary>Judges it by the policy as it is now. A change of policy that comes meanwhile judges it again: the subject is there to be seen before the policy is read.</summary>
    public Judgement Judge(Subject subject)
    {
        Interlocked.Exchange(ref _subject, subject);
        return subject.Judge(Session.Context.Decisions);
    }

    /// <summary>What it was judged by does not count any more; it is judged anew.</summary>
    public void Forget() => Interlocked.Exchange(ref _subject, null);

    /// <summary>Judges it again, and its requests, and ends what is permitted no more. Returns whether the connection was ended.</summary>
    public bool Reconsider(ProxyContext context)
    {
        if (Subject is not { } subject)
        {
            return false;
        }

        var judgement = subject.Judge(context.Decisions);
        if (judgement.IsDenied)
        {
            return Break(new ConnectionEnd(EgressOutcome.Denied, judgement.Verdict.By, $"The policy was changed: {judgement.Verdict.Reason}"));
        }

        if (Tolerated is { } tolerated && context.Decisions.Source.Mode == EgressMode.Enforce)
        {
            return Break(new ConnectionEnd(EgressOutcome.Denied, ConnectionServer.BuiltIn, $"The policy was changed: {tolerated}"));
        }

        if (IsSpliced && Tolerated is null && judgement.Verdict.Intercept)
        {
            return Break(new ConnectionEnd(EgressOutcome.Denied, judgement.Verdict.By, "The policy was changed: what goes to this host is looked into now. Connect again."));
        }

        foreach (var request in _requests.Keys)
        {
            if (judgement.JudgeRequest(context.Decisions, Destination.Port, request.Method, request.Path) is { Action: EgressAction.Deny } verdict)
            {
                request.End($"The policy was changed: {verdict.Reason}");
            }
        }

        return false;
    }

    /// <summary>Notes a request while it is under way.</summary>
    public void Begin(ActiveRequest request)
    {
        Interlocked.Increment(ref _requestCount);
        _requests[request] = true;
    }

    /// <summary>Notes a request that could not be read.</summary>
    public void NoteMalformed() => Interlocked.Increment(ref _requestCount);

    /// <summary>It is over.</summary>
    public void Finish(ActiveRequest request) => _requests.TryRemove(request, out _);

    /// <summary>Ends the connection. Returns whether this is what ended it.</summary>
    public bool Break(ConnectionEnd end)
    {
        if (Interlocked.CompareExchange(ref _end, end, null) is not null)
        {
            return false;
        }

        try
        {
            _ended.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // It was over already.
        }

        Splice.Reset(Socket);
        return true;
    }

    /// <summary>Writes the connection's line into the log.</summary>
    public void Log(EgressOutcome outcome, string by, string reason) => Session.Context.Log.Write(new EgressRecord
    {
        Kind = EgressRecordKind.Connection,
        Outcome = outcome,
        Host = Subject?.Name,
        Address = Destination.Address.ToString(),
        Port = Destination.Port,
        By = by,
        Reason = reason,
        BytesUp = Traffic.BytesUp,
        BytesDown = Traffic.BytesDown,
        Duration = Session.Host.Time.GetElapsedTime(_started),
    });

    public void Dispose()
    {
        Socket.Dispose();
        _ended.Dispose();
    }
}

/// <summary>Why a connection was ended by us.</summary>
/// <param name="Outcome">What its line in the log says; unset: what it would have said.</param>
/// <param name="By">What settled it.</param>
/// <param name="Reason">For people.</param>
internal sealed record ConnectionEnd(EgressOutcome? Outcome, string? By, string Reason);
