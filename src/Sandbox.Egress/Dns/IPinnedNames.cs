using System.Net;

namespace Sandbox.Egress.Dns;

/// <summary>What our DNS has told one session, for as long as it holds: a connection that names a host must go to an address that host was resolved to, by us.</summary>
public interface IPinnedNames
{
    /// <summary>Whether the session was told this address for this name, and may still use it.</summary>
    bool Holds(string name, IPAddress address);

    /// <summary>A name that the session was last told this address for, or <see langword="null"/>. For protocols that do not state a name.</summary>
    string? NameOf(IPAddress address);

    /// <summary>Resolves a name for the proxy's own use, where a request is sent on another way than the guest chose (a reused connection of HTTP/2). Public addresses only.</summary>
    Task<IReadOnlyList<IPAddress>> ResolveAsync(string name, CancellationToken cancellationToken);
}
