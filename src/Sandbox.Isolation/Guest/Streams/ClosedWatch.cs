using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Streams;

/// <summary>A watch that the host has ended and the guest has not yet confirmed: what was under way is dropped.</summary>
internal sealed class ClosedWatch : GuestStream
{
    /// <inheritdoc/>
    public override void Receive(Frame frame)
    {
        if (frame.BodyCase != Frame.BodyOneofCase.WatchEvent)
        {
            throw WrongKind(frame, "a watch");
        }
    }

    /// <inheritdoc/>
    public override void Fail(Exception reason)
    {
    }
}
