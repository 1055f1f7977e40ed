namespace Sandbox.Egress.Proxy.Tls;

/// <summary>What a client says of itself before anything is encrypted, as far as it matters here.</summary>
/// <param name="ServerName">The host it asks for (SNI), in lower case; <see langword="null"/> where it names none, or an address.</param>
/// <param name="IsEncrypted">It carries an encrypted ClientHello (ECH), or pretends to: the true name may be another.</param>
internal sealed record ClientHello(string? ServerName, bool IsEncrypted);

/// <summary>How far a ClientHello has come.</summary>
internal enum HelloStatus
{
    /// <summary>More bytes are needed.</summary>
    Incomplete,

    /// <summary>It is there.</summary>
    Complete,

    /// <summary>It will never be one.</summary>
    Malformed,
}
