using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Streams;

/// <summary>What is remembered of an execution that has exited: a credit for its stdin may still have been under way.</summary>
internal sealed class EndedExecution(GuestStdin stdin) : GuestStream
{
    /// <inheritdoc/>
    public override void Receive(Frame frame)
    {
        if (frame.BodyCase != Frame.BodyOneofCase.StdinCredit)
        {
            throw WrongKind(frame, "an execution that has exited");
        }

        stdin.Credit(frame.StdinCredit.Offset);
    }

    /// <inheritdoc/>
    public override void Fail(Exception reason)
    {
    }
}
