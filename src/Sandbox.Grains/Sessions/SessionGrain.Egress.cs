using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Egress.Log;
using Sandbox.Egress.Policy;
using Sandbox.Egress.Secrets;
using Sandbox.Grains.Sessions.State;
using Sandbox.Grains.Sessions.Validation;

namespace Sandbox.Grains.Sessions;

/// <summary>What the session may reach. The policy is the session's; the host that serves it enforces it.</summary>
internal sealed partial class SessionGrain
{
    private const int MaxDecisions = 256;
    private const int MaxPage = 1000;

    /// <summary>Lines that a suggestion is made of, the newest: enough for a long installation, and bounded.</summary>
    private const int SuggestedFrom = 5000;
    private static readonly TimeSpan EgressRetry = TimeSpan.FromSeconds(1);
    private Task _holding = Task.CompletedTask;

    public async Task<SessionEgress> GetEgressAsync()
    {
        RequireExists();
        var d = Document;
        if (d.State == SessionState.Running)
        {
            try
            {
                return View(d, await Machine(d).GetEgressAsync(d.Generation).WaitAsync(LongestWait));
            }
            catch (Exception e) when (e is SandboxException or TimeoutException or OrleansException)
            {
                _logger.LogDebug(e, "The host of session {Session} does not say where its egress stands", Id);
            }
        }

        return View(d, d.Egress.Mark);
    }

    public async Task<SessionEgress> SetEgressAsync(EgressPolicy policy, string? idempotencyKey)
    {
        RequireExists();
        PolicyValidation.Validate(policy);
        Idempotency.Validate(idempotencyKey);
        var fingerprint = Idempotency.Fingerprint(policy);
        if (Idempotency.Find(Document.Keys, idempotencyKey, "setEgress", fingerprint) is not null)
        {
            return await GetEgressAsync();
        }

        RequireNotEnded(Document);
        var secrets = await RequireSecretsAsync(Document.Tenant, policy);
        var d = await _session.UpdateAsync(s =>
        {
            RequireNotEnded(s);
            if (s is { State: SessionState.Running, Egress.Mark.Network: false } && !policy.ReachesNothing())
            {
                throw new SandboxException(SandboxErrorCode.Unsupported, $"Session '{Id}' has no network: its backend '{s.Backend}' gives it none on this host. Make one with \"needs\": {{\"network\": true}}.");
            }

            return s with
            {
                Egress = WithPolicy(s.Egress, policy, secrets) with { Version = s.Egress.Version + 1 },
                Keys = Idempotency.Add(s.Keys, idempotencyKey, "setEgress", fingerprint),
            };
        });
        Touch();
        return View(d, await HoldAsync(d));
    }

    public async Task<SessionEgress> DecideEgressAsync(EgressDecision decision)
    {
        RequireExists();
        EgressDecisionValidation.Check(decision);
        var d = await _session.UpdateAsync(s =>
        {
            RequireNotEnded(s);
            var others = s.Egress.Decisions.Where(o => (o.Host, o.Method, o.Path) != (decision.Host, decision.Method, decision.Path)).ToList();
            return others.Count < MaxDecisions
                ? s with { Egress = s.Egress with { Decisions = [.. others, decision], Version = s.Egress.Version + 1 } }
                : throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"Session '{Id}' has {MaxDecisions} decisions, the most there may be. Put what they say into its policy.");
        });
        return View(d, await HoldAsync(d));
    }

    public async Task<EgressPage> ReadEgressLogAsync(long from, int max, TimeSpan wait)
    {
        RequireExists();
        if (from < 1)
        {
            throw SandboxException.Invalid("from", "Lines are numbered from 1.");
        }

        if (max is < 1 or > MaxPage)
        {
            throw SandboxException.Invalid("max", $"{max} is outside 1 to {MaxPage}.");
        }

        wait = wait < TimeSpan.Zero ? TimeSpan.Zero : wait > LongestWait ? LongestWait : wait;
        var parts = Document.Egress.Parts;
        var at = Math.Max(0, parts.FindLastIndex(p => p.First <= from));
        for (; at < parts.Count; at++)
        {
            var last = at == parts.Count - 1;
            EgressPage? page = null;
            try
            {
                page = await _grains.GetGrain<IHostGrain>(parts[at].HostId).ReadEgressLogAsync(Id, Math.Max(from, parts[at].First), max, last ? wait : TimeSpan.Zero).WaitAsync(wait + LongestWait);
            }
            catch (Exception e) when (!last && e is SandboxException or TimeoutException or OrleansException)
            {
                // What is on a host that is gone is skipped, and the gap in the numbers says so.
                _logger.LogInformation(e, "The egress log of session {Session} on host {Host} cannot be read", Id, parts[at].HostId);
            }

            if (last)
            {
                if (page!.Records.Count == 0 && Document.State != SessionState.Running)
                {
                    // Nothing is written meanwhile; who waits for more is not to ask again at once.
                    await Task.Delay(wait);
                }

                return page;
            }

            // A part ends where the next one begins, whatever the host that had it wrote afterwards.
            var records = page?.Records.Where(r => r.Seq < parts[at + 1].First).ToList();
            if (records is { Count: > 0 })
            {
                return new EgressPage(records, records[^1].Seq + 1, page!.First);
            }
        }

        await Task.Delay(wait);
        return new EgressPage([], from, 1);
    }

    public async Task<EgressSuggestion> SuggestEgressAsync()
    {
        RequireExists();
        var records = new Queue<EgressRecord>();
        for (var from = 1L; ;)
        {
            var page = await ReadEgressLogAsync(from, MaxPage, TimeSpan.Zero);
            if (page.Records.Count == 0)
            {
                var found = PolicySuggestion.From(records);
                var present = Document.Egress.Policy;

                // Before the present rules, of which one may have denied it.
                return new EgressSuggestion(
                    present with { Presets = [.. present.Presets.Union(found.Policy.Presets)], Rules = [.. found.Policy.Rules, .. present.Rules] }, [.. found.Parts.Select(p => p.Reason)]);
            }

            foreach (var record in page.Records)
            {
                records.Enqueue(record);
                if (records.Count > SuggestedFrom)
                {
                    records.Dequeue();
                }
            }

            from = page.Next;
        }
    }

    /// <summary>Holds a machine that runs to what is stored. One that cannot be reached now is told as soon as it can.</summary>
    private async Task<EgressMark> HoldAsync(SessionDocument d)
    {
        if (d.State is not (SessionState.Running or SessionState.Pausing))
        {
            return d.Egress.Mark;
        }

        try
        {
            return await Machine(d).SetEgressAsync(d.Generation, await EgressOfAsync(d)).WaitAsync(LongestWait);
        }
        catch (Exception e)
        {
            _logger.LogWarning(e, "Session {Session}: its host could not be told of policy version {Version}", Id, d.Egress.Version);
            if (_holding.IsCompleted)
            {
                _holding = HoldLaterAsync();
            }

            throw SandboxException.Unavailable($"The policy of session '{Id}' is stored (version {d.Egress.Version}), but host {d.HostId} could not be told yet: {e.Message} It is tried again until it is in force.");
        }
    }

    private async Task HoldLaterAsync()
    {
        TenantContext.Set(TenantContext.System);
        while (Document is { State: SessionState.Running or SessionState.Pausing } d)
        {
            await Task.Delay(EgressRetry);
            try
            {
                await Machine(d).SetEgressAsync(d.Generation, await EgressOfAsync(d)).WaitAsync(LongestWait);
                return;
            }
            catch (Exception e)
            {
                _logger.LogDebug(e, "Session {Session}: its host can still not be told of its policy", Id);
            }
        }
    }

    /// <summary>What the session's host needs. The secrets come encrypted and stay so until they are there.</summary>
    private async Task<MicroVmEgress> EgressOfAsync(SessionDocument d) => new()
    {
        Policy = d.Egress.Policy,
        Version = d.Egress.Version,
        Placeholders = d.Egress.Active,
        Decisions = d.Egress.Decisions,
        Mark = d.Egress.Mark,
        Material = d.Egress.Policy.LooksInside() ? await _grains.GetGrain<ITenantEgressGrain>(d.Tenant).GetMaterialAsync(d.Egress.Policy.Secrets) : null,
    };

    /// <summary>The egress of a new session: what its request says, else what it inherits, else its tenant's default.</summary>
    private async Task<EgressDocument> FirstEgressAsync(string tenant, EgressPolicy? requested, EgressDocument? inherited)
    {
        if (requested is null && inherited is not null)
        {
            return inherited.Inherited();
        }

        var policy = requested ?? await _grains.GetGrain<ITenantEgressGrain>(tenant).GetDefaultAsync();
        return WithPolicy(inherited?.Inherited() ?? new EgressDocument(), policy, await RequireSecretsAsync(tenant, policy));
    }

    private static EgressDocument WithPolicy(EgressDocument egress, EgressPolicy policy, IReadOnlyList<SecretInfo> secrets) => egress with
    {
        Policy = policy,
        Placeholders =
        [
            .. egress.Placeholders,
            .. secrets.Where(s => egress.Placeholders.TrueForAll(p => p.Name != s.Name)).Select(s => new SecretPlaceholder(s.Name, s.Variable, Placeholders.New(s.Name))),
        ],
    };

    /// <summary>The secrets that a policy names.</summary>
    private async Task<IReadOnlyList<SecretInfo>> RequireSecretsAsync(string tenant, EgressPolicy policy)
    {
        if (policy.Secrets.Count == 0)
        {
            return [];
        }

        var stored = await _grains.GetGrain<ITenantEgressGrain>(tenant).ListSecretsAsync();
        var missing = policy.Secrets.FirstOrDefault(n => stored.All(s => s.Name != n));
        return missing is null
            ? [.. stored.Where(s => policy.Secrets.Contains(s.Name))]
            : throw SandboxException.Invalid("egress.secrets", $"There is no secret '{missing}'. {(stored.Count > 0 ? $"Stored are: {string.Join(", ", stored.Select(s => s.Name))}." : "None is stored yet; store it with PUT /v1/secrets/NAME.")}");
    }

    /// <summary>Environment of executions: placeholders first, so that what the caller sets himself wins.</summary>
    private static Dictionary<string, string> EnvOf(SessionDocument d) =>
        d.Egress.Policy.Secrets.Count == 0 ? d.Env : Merge(d.Egress.Active.GroupBy(p => p.Variable).ToDictionary(g => g.Key, g => g.Last().Placeholder, StringComparer.Ordinal), d.Env);

    private static SessionEgress View(SessionDocument d, EgressMark mark) => new()
    {
        Policy = d.Egress.Policy,
        Version = d.Egress.Version,
        Network = mark.Network,
        Counters = mark.Counters,
        Placeholders = d.Egress.Active,
        Decisions = d.Egress.Decisions,
    };
}
