using Sandbox.Egress.Proxy.Tls;

namespace Sandbox.Egress.Proxy.Connections;

/// <summary>What a connection begins as.</summary>
internal enum OpeningKind
{
    /// <summary>TLS, with a ClientHello that is complete.</summary>
    Tls,

    /// <summary>HTTP/1.x in clear.</summary>
    Http,

    /// <summary>Something else.</summary>
    Raw,

    /// <summary>The guest says nothing: it waits for the other side to begin.</summary>
    Silent,

    /// <summary>The guest went before it said anything that could be judged.</summary>
    Gone,

    /// <summary>TLS that is malformed, or not complete in time.</summary>
    Bad,
}

/// <summary>The first bytes of a connection. They are still to be sent on.</summary>
/// <param name="Kind">What they are.</param>
/// <param name="Bytes">The bytes.</param>
/// <param name="Hello">With <see cref="OpeningKind.Tls"/>.</param>
/// <param name="Fault">With <see cref="OpeningKind.Bad"/>: a sentence.</param>
internal sealed record Opening(OpeningKind Kind, ReadOnlyMemory<byte> Bytes, ClientHello? Hello = null, string Fault = "");
