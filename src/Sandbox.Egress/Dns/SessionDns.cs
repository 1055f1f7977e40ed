using System.Collections.Concurrent;
using System.Net;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Abstractions;
using Sandbox.Egress.Limits;
using Sandbox.Egress.Log;
using Sandbox.Egress.Policy;
using Sandbox.Isolation.Network;

namespace Sandbox.Egress.Dns;

/// <summary>What a session's DNS is made of.</summary>
public sealed record SessionDnsParts
{
    /// <summary>The policy, as of now; <see cref="SessionDns.Decisions"/> changes it.</summary>
    public required IEgressDecisions Decisions { get; init; }

    /// <summary>Resolves.</summary>
    public required NameResolver Resolver { get; init; }

    /// <summary>Notes what was told.</summary>
    public required PinnedNames Names { get; init; }

    /// <summary>The log.</summary>
    public required IEgressLog Log { get; init; }

    /// <summary>Opens the firewall: <see cref="IGuestNetwork.OpenAsync"/>.</summary>
    public required Func<IReadOnlyList<OpenEndpoint>, CancellationToken, Task> Open { get; init; }

    /// <summary>Clock.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>For our own troubles.</summary>
    public ILogger Logger { get; init; } = NullLogger.Instance;
}

/// <summary>
/// The DNS of one session: answers only names that the policy allows, and only with public IPv4 addresses, which it pins and opens the firewall for before it answers. Serves the sockets it is given until it is disposed of.
/// Other questions than for addresses are refused: an answer that we cannot judge is a way out.
/// </summary>
public sealed partial class SessionDns : IAsyncDisposable
{
    private readonly SessionDnsParts _parts;
    private readonly TokenBucket _rate;
    private readonly DnsDefence _defence;
    private readonly CancellationTokenSource _ending = new();

    // Another one when the firewall is another: what is being opened meanwhile is noted in the old one and forgotten with it.
    private volatile ConcurrentDictionary<(IPAddress Address, int Port), DateTimeOffset> _opened = new();
    private IEgressDecisions _decisions;

    /// <summary>Makes one; <see cref="Serve"/> starts it.</summary>
    public SessionDns(SessionDnsParts parts)
    {
        ArgumentNullException.ThrowIfNull(parts);
        _parts = parts;
        _decisions = parts.Decisions;
        _rate = new TokenBucket(parts.Time);
        _defence = new DnsDefence(parts.Time);
    }

    /// <summary>
    /// The policy. A change holds from the next question on; pins are not taken back (<see cref="PinnedNames.EndpointsUnder"/>). Set it also after the firewall was replaced, so that nothing is taken for open that is not.
    /// </summary>
    public IEgressDecisions Decisions
    {
        get => Volatile.Read(ref _decisions);
        set
        {
            Volatile.Write(ref _decisions, value);
            _opened = new();
        }
    }

    /// <summary>Answers one message. <see langword="null"/>: there is nothing to answer.</summary>
    /// <param name="message">As it came.</param>
    /// <param name="overTcp">Its answer may be long.</param>
    /// <param name="cancellationToken">Gives up.</param>
    public async Task<byte[]?> AnswerAsync(ReadOnlyMemory<byte> message, bool overTcp, CancellationToken cancellationToken)
    {
        if (DnsQuery.Read(message) is not { } query)
        {
            return null;
        }

        var answer = await JudgeAsync(query, cancellationToken).ConfigureAwait(false);
        return DnsReply.Write(query, answer.Code, answer.Addresses, (int)Math.Ceiling(answer.Ttl.TotalSeconds), overTcp ? 4096 : query.PayloadSize, answer.Reason);
    }

    private async Task<Answer> JudgeAsync(DnsQuery query, CancellationToken cancellationToken)
    {
        var decisions = Decisions;
        if (!_rate.TryTake(decisions.Source.Limits.DnsQueriesPerSecond))
        {
            // A refusal costs less than a question, and tells the program at once that it was temporary.
            return Refuse(null, DnsCode.Refused, $"more than {decisions.Source.Limits.DnsQueriesPerSecond} DNS queries a second", "limit");
        }

        if (query.Error != DnsCode.Ok)
        {
            return query.Error == DnsCode.BadVersion ? new Answer(DnsCode.BadVersion) : Refuse(null, query.Error, "a malformed or unknown DNS query", BuiltIn);
        }

        if (query.Class != 1 || query.Name is "" || query.Type is not (DnsType.A or DnsType.Aaaa or DnsType.Https or DnsType.Svcb or DnsType.Ptr))
        {
            return Refuse(query.Name, DnsCode.Refused, $"DNS type {query.Type} class {query.Class} is not answered; only addresses are", BuiltIn);
        }

        if (query.Name is null)
        {
            return Refuse(null, DnsCode.NoSuchName, "the name asked for is no host name", BuiltIn);
        }

        if (query.Type == DnsType.Ptr)
        {
            // Tools ask for the names of addresses in passing; "none" has them go on at once.
            return new Answer(DnsCode.NoSuchName);
        }

        if (SpecialNames.WhyNot(query.Name) is { } special)
        {
            return Refuse(query.Name, DnsCode.NoSuchName, special, BuiltIn);
        }

        var verdict = decisions.JudgeName(query.Name);
        if (verdict.Outcome == EgressOutcome.Denied)
        {
            // "No such name" has every program give up at once and say so; REFUSED is taken for a broken server and asked again.
            return Refuse(query.Name, DnsCode.NoSuchName, $"{(verdict.By == "unmatched" ? "no rule or preset allows" : verdict.By + " denies")} {query.Name}", verdict.By);
        }

        // No IPv6, and no records that could bring keys for hiding a connection's name (ECH) or other addresses.
        return query.Type != DnsType.A ? new Answer(DnsCode.Ok) : await ResolveAsync(query.Name, verdict, cancellationToken).ConfigureAwait(false);
    }

    private async Task<Answer> ResolveAsync(string name, NameVerdict verdict, CancellationToken cancellationToken)
    {
        var resolved = _parts.Resolver.Cached(name);
        if (resolved is null)
        {
            if (_defence.WhyNot(name) is { } tunnel)
            {
                return Refuse(name, DnsCode.Refused, tunnel, BuiltIn);
            }

            resolved = await _parts.Resolver.ResolveAsync(name, cancellationToken).ConfigureAwait(false);
        }

        switch (resolved)
        {
            case { Status: UpstreamStatus.Failed }:
                Write(name, EgressOutcome.Failed, "the name servers did not answer", verdict.By);
                return new Answer(DnsCode.ServerFailure) { Reason = "the name servers did not answer" };
            case { Status: UpstreamStatus.NoSuchName }:
                Write(name, EgressOutcome.Failed, "the name does not exist", verdict.By);
                return new Answer(DnsCode.NoSuchName);
            case { Addresses.Count: 0, Stripped: > 0 }:
                return Refuse(name, DnsCode.NoSuchName, "rebinding: the name has only addresses that are not public", BuiltIn);
            case { Addresses.Count: 0 }:
                Write(name, EgressOutcome.Failed, "the name has no IPv4 address", verdict.By);
                return new Answer(DnsCode.Ok);
        }

        try
        {
            // Before the answer: the guest may connect as soon as it has it.
            _parts.Names.Pin(name, resolved.Addresses, resolved.Ttl);
            await OpenAsync(Endpoints(resolved, verdict), resolved.Ttl, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception) when (exception is not OperationCanceledException)
        {
            // Whatever the firewall failed with: an answer that leads nowhere would be worse than none.
            LogNotOpened(_parts.Logger, name, exception);
            Write(name, EgressOutcome.Failed, "the firewall could not be opened", verdict.By);
            return new Answer(DnsCode.ServerFailure) { Reason = "the firewall could not be opened" };
        }

        var stripped = resolved.Stripped == 0 ? null : $"{resolved.Stripped} addresses that are not public were left out";
        Write(name, verdict.Outcome, verdict.Outcome == EgressOutcome.WouldDeny ? $"no rule allows {name}" : stripped, verdict.By, resolved.Addresses[0].ToString());
        return new Answer(DnsCode.Ok) { Addresses = resolved.Addresses, Ttl = resolved.Ttl };
    }

    /// <summary>Opens what is not open for long enough. Programs resolve a name for every request; the kernel need not hear of each.</summary>
    private async Task OpenAsync(OpenEndpoint[] endpoints, TimeSpan ttl, CancellationToken cancellationToken)
    {
        var opened = _opened;
        var now = _parts.Time.GetUtcNow();
        OpenEndpoint[] missing = [.. endpoints.Where(e => !opened.TryGetValue((e.Address, e.Port), out var until) || until < now + ttl + (PinnedNames.Grace / 2))];
        if (missing.Length == 0)
        {
            return;
        }

        await _parts.Open(missing, cancellationToken).ConfigureAwait(false);
        if (opened.Count > MaxOpened)
        {
            opened.Clear();
        }

        foreach (var endpoint in missing)
        {
            opened[(endpoint.Address, endpoint.Port)] = now + endpoint.Lifetime;
        }
    }

    private static OpenEndpoint[] Endpoints(ResolvedName resolved, NameVerdict verdict)
    {
        // All ports are open by a range already; the web's are opened all the same in case that it is just being changed.
        IReadOnlyList<int> ports = verdict.Ports.Count == 0 && verdict.AllPorts ? [80, 443] : verdict.Ports;
        return [.. resolved.Addresses.SelectMany(a => ports.Select(p => new OpenEndpoint(a, p, resolved.Ttl + PinnedNames.Grace)))];
    }

    private Answer Refuse(string? name, DnsCode code, string reason, string by)
    {
        Write(name, EgressOutcome.Denied, reason, by);
        return new Answer(code) { Reason = reason };
    }

    private void Write(string? name, EgressOutcome outcome, string? reason, string by, string? address = null) =>
        _parts.Log.Write(new EgressRecord { Kind = EgressRecordKind.Dns, Outcome = outcome, Host = name, Address = address, Reason = reason, By = by });

    private const string BuiltIn = "built-in";
    private const int MaxOpened = 8192;

    private sealed record Answer(DnsCode Code)
    {
        public IReadOnlyList<IPAddress> Addresses { get; init; } = [];

        public TimeSpan Ttl { get; init; }

        public string? Reason { get; init; }
    }
}
