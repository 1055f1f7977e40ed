using Sandbox.Guest.Protocol;

namespace Sandbox.Isolation.Guest.Streams;

/// <summary>What the host keeps for one stream it has opened.</summary>
internal abstract class GuestStream
{
    /// <summary>The stream's number on the wire.</summary>
    public required ulong Id { get; init; }

    /// <summary>Takes a frame from the guest. Called by the one receiving thread of a connection.</summary>
    /// <exception cref="ProtocolException">The frame is illegal on this stream, now.</exception>
    public abstract void Receive(Frame frame);

    /// <summary>The connection is closed for good.</summary>
    public abstract void Fail(Exception reason);

    /// <summary>The violation of a frame whose kind does not belong on a stream.</summary>
    protected ProtocolException WrongKind(Frame frame, string stream) => new($"A {frame.BodyCase} on stream {Id}, which is {stream}.");
}
