using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest.Validation;

namespace Sandbox.Isolation.Guest.Streams;

/// <summary>A request that waits for its answer, or whose caller has given up waiting.</summary>
internal sealed class PendingRequest(Request request, Action<PendingRequest, Response> answered) : GuestStream
{
    // Not on the receiving thread: a caller's continuation must never hold up the channel.
    private readonly TaskCompletionSource<Response> _answer = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>What was asked.</summary>
    public Request Request => request;

    /// <summary>The answer; faults with <see cref="GuestUnavailableException"/>.</summary>
    public Task<Response> Answer => _answer.Task;

    /// <summary>Nobody waits any more. Guarded by the connection's lock.</summary>
    public bool Abandoned { get; set; }

    /// <inheritdoc/>
    public override void Receive(Frame frame)
    {
        if (frame.BodyCase != Frame.BodyOneofCase.Response)
        {
            throw WrongKind(frame, "a request that is not answered yet");
        }

        ResponseRules.Check(request, frame.Response);
        answered(this, frame.Response);
    }

    /// <summary>Lets the caller have the answer.</summary>
    public void Complete(Response response) => _answer.TrySetResult(response);

    /// <inheritdoc/>
    public override void Fail(Exception reason)
    {
        if (_answer.TrySetException(reason))
        {
            // Seen here, so that an abandoned one does not count as unobserved.
            _ = _answer.Task.Exception;
        }
    }
}
