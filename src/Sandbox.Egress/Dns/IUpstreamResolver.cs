using System.Net;

namespace Sandbox.Egress.Dns;

/// <summary>Asks the world's DNS for IPv4 addresses. Safe for concurrent use; one for all sessions of a host.</summary>
public interface IUpstreamResolver
{
    /// <summary>Resolves a name, following aliases. Answers within its own time limit; a failure is an answer, not an exception.</summary>
    /// <param name="name">Lower case, without a final dot.</param>
    /// <param name="cancellationToken">Gives up.</param>
    Task<UpstreamAnswer> ResolveAsync(string name, CancellationToken cancellationToken);
}

/// <summary>What the world's DNS says.</summary>
/// <param name="Status">How it went.</param>
/// <param name="Addresses">IPv4 addresses, whatever they are.</param>
/// <param name="Ttl">How long it holds: the shortest of the addresses and aliases.</param>
public sealed record UpstreamAnswer(UpstreamStatus Status, IReadOnlyList<IPAddress> Addresses, TimeSpan Ttl)
{
    /// <summary>Nobody answered.</summary>
    public static UpstreamAnswer Failure { get; } = new(UpstreamStatus.Failed, [], TimeSpan.Zero);

    /// <summary>There is no such name.</summary>
    public static UpstreamAnswer NoSuchName { get; } = new(UpstreamStatus.NoSuchName, [], TimeSpan.Zero);
}

/// <summary>How a question upstream went.</summary>
public enum UpstreamStatus
{
    /// <summary>The name exists; it may have no IPv4 address all the same.</summary>
    Found = 0,

    /// <summary>There is no such name.</summary>
    NoSuchName = 1,

    /// <summary>No server answered in time, or it failed.</summary>
    Failed = 2,
}
