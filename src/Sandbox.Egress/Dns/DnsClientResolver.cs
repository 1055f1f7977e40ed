using System.Net;
using DnsClient;
using DnsClient.Protocol;
using Sandbox.Egress.Policy;

namespace Sandbox.Egress.Dns;

/// <summary>Asks name servers over UDP, and over TCP where an answer is cut.</summary>
public sealed class DnsClientResolver : IUpstreamResolver
{
    private const int MaxAliases = 16;
    private readonly LookupClient _client;

    /// <summary>Makes one.</summary>
    /// <param name="servers">Name servers; empty: those of the host's <c>/etc/resolv.conf</c>.</param>
    /// <param name="timeout">For one try of one server; two are made. Default: 2 s.</param>
    public DnsClientResolver(IReadOnlyList<IPEndPoint>? servers = null, TimeSpan? timeout = null)
    {
        var options = servers is { Count: > 0 } ? new LookupClientOptions([.. servers]) : new LookupClientOptions();
        options.Timeout = timeout ?? TimeSpan.FromSeconds(2);
        options.Retries = 1;

        // Each session has a small cache of its own: what one asked must not show another how fast an answer comes.
        options.UseCache = false;
        options.ThrowDnsErrors = false;
        options.ContinueOnDnsError = true;
        _client = new LookupClient(options);
    }

    /// <inheritdoc/>
    public async Task<UpstreamAnswer> ResolveAsync(string name, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(name);
        IDnsQueryResponse response;
        try
        {
            // The final dot keeps the host's search list out of it.
            response = await _client.QueryAsync(name + ".", QueryType.A, QueryClass.IN, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is DnsResponseException or IOException or System.Net.Sockets.SocketException or InvalidOperationException or ArgumentException || (exception is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            return UpstreamAnswer.Failure;
        }

        if (response.Header.ResponseCode == DnsHeaderResponseCode.NotExistentDomain)
        {
            return UpstreamAnswer.NoSuchName;
        }

        if (response.HasError)
        {
            return UpstreamAnswer.Failure;
        }

        return Follow(name, response.Answers);
    }

    /// <summary>Follows aliases from the name that was asked for: records of other names in an answer are nobody's business.</summary>
    private static UpstreamAnswer Follow(string name, IReadOnlyList<DnsResourceRecord> records)
    {
        var ttl = int.MaxValue;
        for (var hops = 0; hops <= MaxAliases; hops++)
        {
            var addresses = records.OfType<ARecord>().Where(r => IsOf(r, name)).ToArray();
            if (addresses.Length > 0)
            {
                return new UpstreamAnswer(UpstreamStatus.Found, [.. addresses.Select(a => a.Address).Distinct()], TimeSpan.FromSeconds(Math.Min(ttl, addresses.Min(a => a.InitialTimeToLive))));
            }

            if (records.OfType<CNameRecord>().FirstOrDefault(r => IsOf(r, name)) is not { } alias)
            {
                break;
            }

            ttl = Math.Min(ttl, alias.InitialTimeToLive);
            name = HostNames.Normalise(alias.CanonicalName.Value);
        }

        return new UpstreamAnswer(UpstreamStatus.Found, [], TimeSpan.Zero);
    }

    private static bool IsOf(DnsResourceRecord record, string name) => HostNames.Normalise(record.DomainName.Value) == name;
}
