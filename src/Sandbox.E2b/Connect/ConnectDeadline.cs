using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Connect;

/// <summary>When a call is over whether it is done or not: the caller has gone, or the time that it gave has passed.</summary>
internal sealed class ConnectDeadline : IDisposable
{
    /// <summary>Longest that a timer of the runtime runs, about.</summary>
    private static readonly TimeSpan Most = TimeSpan.FromDays(30);

    private readonly CancellationTokenSource _timer;
    private readonly CancellationTokenSource _either;

    /// <summary>Begins.</summary>
    public ConnectDeadline(HttpContext context, TimeSpan? timeout)
    {
        Timeout = timeout < Most ? timeout : null;
        _timer = Timeout is { } time ? new CancellationTokenSource(time) : new CancellationTokenSource();
        _either = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, _timer.Token);
    }

    /// <summary>The time that was given; <see langword="null"/>: without end, or as good as that.</summary>
    public TimeSpan? Timeout { get; }

    /// <summary>Cancelled when it is over.</summary>
    public CancellationToken Token => _either.Token;

    /// <summary>The time has passed.</summary>
    public bool HasPassed => _timer.IsCancellationRequested;

    /// <summary>What the caller is told then.</summary>
    public static SandboxException Exceeded() => new(SandboxErrorCode.DeadlineExceeded, "The time that the caller gave in Connect-Timeout-Ms has passed");

    /// <inheritdoc/>
    public void Dispose()
    {
        _either.Dispose();
        _timer.Dispose();
    }
}
