namespace Sandbox.Guest.Protocol;

/// <summary>The other end of a guest channel broke the protocol. The channel is of no more use and must be closed.</summary>
public sealed class ProtocolException : IOException
{
    /// <summary>Makes an exception with a message that says which rule was broken.</summary>
    public ProtocolException(string message)
        : base(message)
    {
    }

    /// <summary>Makes an exception that wraps what the decoder found.</summary>
    public ProtocolException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
