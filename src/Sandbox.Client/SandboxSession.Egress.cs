using System.Runtime.CompilerServices;
using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <content>What the session may reach outside.</content>
public sealed partial class SandboxSession
{
    private const int EgressPageSize = 500;
    private static readonly TimeSpan EgressWait = TimeSpan.FromSeconds(10);

    private ISessionEgress Egress => _grains.GetGrain<ISessionEgress>(Id);

    /// <summary>The egress policy, and the sums of the session's traffic.</summary>
    public Task<SessionEgress> GetEgressAsync(CancellationToken cancellationToken = default) => Caller.RetryAsync(() => Egress.GetEgressAsync(), cancellationToken);

    /// <summary>Puts another policy in force. Connections that it permits go on, others are ended.</summary>
    /// <exception cref="SandboxException">As <see cref="ISessionEgress.SetEgressAsync"/>.</exception>
    public Task<SessionEgress> SetEgressAsync(EgressPolicy policy, CancellationToken cancellationToken = default)
    {
        var key = SandboxClient.NewKey();
        return Caller.RetryAsync(() => Egress.SetEgressAsync(policy, key), cancellationToken);
    }

    /// <summary>The policy that lets through what the log says was denied.</summary>
    public Task<EgressSuggestion> SuggestEgressAsync(CancellationToken cancellationToken = default) => Caller.RetryAsync(() => Egress.SuggestEgressAsync(), cancellationToken);

    /// <summary>Answers an auditor that asked.</summary>
    public Task<SessionEgress> DecideEgressAsync(EgressDecision decision, CancellationToken cancellationToken = default) => Caller.RetryAsync(() => Egress.DecideEgressAsync(decision), cancellationToken);

    /// <summary>The egress log from a line on, as it is written, until cancelled.</summary>
    /// <param name="from">First line wanted, from 1.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public async IAsyncEnumerable<EgressRecord> FollowEgressAsync(long from = 1, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        while (true)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var at = from;
            var page = await Caller.RetryAsync(() => Egress.ReadEgressLogAsync(at, EgressPageSize, EgressWait), cancellationToken);
            foreach (var record in page.Records)
            {
                yield return record;
            }

            from = page.Next;
        }
    }
}
