using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;
using Sandbox.Grains.Sessions.Validation;
using Sandbox.Grains.Tenants;

namespace Sandbox.Grains.Sessions;

/// <summary>Create, look, set, end.</summary>
internal sealed partial class SessionGrain
{
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(20);

    public async Task<SessionInfo> CreateAsync(CreateSessionRequest request, string? idempotencyKey)
    {
        if (!SandboxIds.IsSession(Id))
        {
            throw SandboxException.Invalid("id", "That is not a session id. Make one with SandboxIds.NewSession().");
        }

        if (TenantContext.Current is not { } tenant || !TenantNames.IsTenant(tenant))
        {
            throw new SandboxException(SandboxErrorCode.Unauthenticated, "A session is created for a tenant, and the call names none.");
        }

        SessionValidation.Check(request, _options);
        Idempotency.Validate(idempotencyKey);
        var fingerprint = Idempotency.Fingerprint(request);
        if (Document.State != SessionState.None)
        {
            return Idempotency.Find(Document.Keys, idempotencyKey, "create", fingerprint) is not null
                ? Info()
                : throw new SandboxException(SandboxErrorCode.AlreadyExists, $"Session '{Id}' exists already.");
        }

        await CheckQuotaAsync(tenant);
        var now = Now;
        var made = new SessionDocument
        {
            Id = Id,
            Tenant = tenant,
            CreatedAt = now,
            LastActivityAt = now,
            IdleTimeout = request.IdleTimeout ?? (request.RunLimit is null ? _options.DefaultIdleTimeout : _options.IdleTimeoutCeiling),
            MaxLifetime = request.MaxLifetime ?? (request.Sealed ? _options.MaxLifetimeCeiling : _options.DefaultMaxLifetime),
            RunLimit = request.RunLimit,
            WakeOnCall = request.WakeOnCall,
            Sealed = request.Sealed,
            IdleAction = request.IdleAction,
            Policy = request.Checkpoints,
            Metadata = new(request.Metadata, StringComparer.Ordinal),
            Untrusted = request.Untrusted,
            Needs = request.Needs,
            Keys = Idempotency.Add([], idempotencyKey, "create", fingerprint),
        };
        var document = request.From is { } from ? await SeededAsync(made, request, from) : await TemplatedAsync(made, request);

        // A host chosen now is in the write that makes the session, and its generation too: a start needs one write less.
        var placement = document.Sealed ? null : await TryPlaceAsync(document);
        if (placement is not null)
        {
            document = OnHost(document, placement);
        }

        // Both are durable before anybody is told. An entry without a session is harmless; a session that a crash left without an entry makes it again before it starts.
        var index = IndexShard(tenant);
        var indexing = index.AddAsync(Id, now);
        _placed = placement;
        try
        {
            await _session.UpdateAsync(d => d.State == SessionState.None
                ? SessionStateMachine.Move(document, SessionState.Creating, null, now)
                : throw new SandboxException(SandboxErrorCode.AlreadyExists, $"Session '{Id}' exists already."));
            await indexing;
        }
        catch (SandboxException) when (Document.State == SessionState.None)
        {
            _placed = null;
            await QuietlyAsync(
                async () =>
                {
                    await indexing;
                    await index.RemoveAsync(Id);
                },
                "taking the session out of the index");
            throw;
        }

        Touch();
        StartClock();
        BeginBringUp();

        // Beside the start: the reminder is for a silo that dies under it.
        _ = QuietlyAsync(ArmReminderAsync, "arming the reminder");
        return Info();
    }

    public Task<SessionInfo> GetAsync()
    {
        RequireExists();
        return Task.FromResult(Info());
    }

    public async Task<SessionInfo> WaitUntilSettledAsync(TimeSpan wait)
    {
        RequireExists();
        await WaitSettledAsync(wait > LongestWait ? LongestWait : wait);
        return Info();
    }

    public async Task<SessionInfo> SetTimeoutsAsync(TimeSpan? idleTimeout, TimeSpan? maxLifetime, string? idempotencyKey)
    {
        RequireExists();
        SessionValidation.CheckTimeouts(idleTimeout, maxLifetime, _options);
        Idempotency.Validate(idempotencyKey);
        var fingerprint = Idempotency.Fingerprint(idleTimeout, maxLifetime);
        await _session.UpdateAsync(d =>
        {
            if (Idempotency.Find(d.Keys, idempotencyKey, "setTimeouts", fingerprint) is not null)
            {
                return d;
            }

            RequireNotEnded(d);
            return d with
            {
                IdleTimeout = idleTimeout ?? d.IdleTimeout,
                MaxLifetime = maxLifetime ?? d.MaxLifetime,
                LastActivityAt = Now,
                Keys = Idempotency.Add(d.Keys, idempotencyKey, "setTimeouts", fingerprint),
            };
        });
        Touch();
        await QuietlyAsync(ArmReminderAsync, "arming the reminder");
        return Info();
    }

    public async Task<SessionInfo> SetRunLimitAsync(TimeSpan limit, bool onlyLater)
    {
        RequireExists();
        SessionValidation.CheckRunLimit(limit, _options);
        await _session.UpdateAsync(d =>
        {
            RequireNotEnded(d);
            var until = Now + limit;
            return onlyLater && d is { State: SessionState.Running, RunLimit: not null } && d.RunsUntil >= until
                ? d
                : d with { RunLimit = limit, RunsUntil = d.State == SessionState.Running ? until : d.RunsUntil };
        });
        Touch();
        await QuietlyAsync(ArmReminderAsync, "arming the reminder");
        return Info();
    }

    public async Task<SessionInfo> TerminateAsync(string? idempotencyKey)
    {
        RequireExists();
        Idempotency.Validate(idempotencyKey);
        Idempotency.Find(Document.Keys, idempotencyKey, "terminate", "");
        await EndAsync("deleted by its owner", idempotencyKey);
        return Info();
    }

    /// <summary>Ends the session on purpose. Stored first; then whoever waits is told; then what it held is removed.</summary>
    private async Task EndAsync(string cause, string? idempotencyKey)
    {
        await _session.UpdateAsync(d => d.IsFinal
            ? d
            : SessionStateMachine.Move(d, SessionState.Terminated, cause, Now) with { Keys = Idempotency.Add(d.Keys, idempotencyKey, "terminate", "") });
        Announce();
        await CleanUpAsync();
    }

    /// <summary>Ends the session by a fault. Outputs stay readable until its retention passes or it is deleted.</summary>
    private async Task FailAsync(string cause, long generation)
    {
        await _session.UpdateAsync(d => d.IsFinal || d.Generation != generation ? d : SessionStateMachine.Move(d, SessionState.Failed, cause, Now));
        if (Document.State == SessionState.Failed)
        {
            Announce();
            _logger.LogWarning("Session {Session} failed: {Cause}", Id, cause);
            await QuietlyAsync(() => StopMachineAsync(Document, "its session failed"), "stopping the microVM");
            await QuietlyAsync(() => EndExecutionsAsync(ExitReason.Lost, "lost: " + cause), "closing executions");
            await QuietlyAsync(ArmReminderAsync, "arming the reminder");
        }
    }

    /// <summary>Removes everything an ended session holds anywhere. What cannot be reached now is tried again by the reminder.</summary>
    private async Task CleanUpAsync()
    {
        await QuietlyAsync(() => EndExecutionsAsync(ExitReason.Killed, "ended with its session: " + Document.Cause), "closing executions");
        foreach (var host in Document.HostsUsed.ToList())
        {
            await QuietlyAsync(
                async () =>
                {
                    await _grains.GetGrain<IHostGrain>(host).ForgetSessionAsync(Id).WaitAsync(LongestWait);
                    await _session.UpdateAsync(d => d with { HostsUsed = [.. d.HostsUsed.Where(h => h != host)] });
                },
                $"removing the session from host {host}");
        }

        await QuietlyAsync(DropSnapshotsAsync, "deleting its snapshots");
        await QuietlyAsync(DropArtifactsAsync, "deleting its artifacts");
        await QuietlyAsync(
            async () =>
            {
                await IndexShard(Document.Tenant).RemoveAsync(Id);
                await _session.UpdateAsync(d => d.Unlisted ? d : d with { Unlisted = true });
            },
            "taking the session out of the index");
        await QuietlyAsync(ArmReminderAsync, "arming the reminder");
    }

    /// <summary>An ended session needs no snapshots. Forks have their own.</summary>
    private async Task DropSnapshotsAsync()
    {
        await _session.UpdateAsync(d => d.Checkpoints.Count == 0 && d.Pending is null
            ? d
            : d with { Checkpoints = [], Pending = null, Resume = null, Loose = [.. d.Loose.Union(d.Checkpoints.Select(c => c.Id))] });
        await DropLooseAsync();
    }

    private Task EndExecutionsAsync(ExitReason reason, string message) => _executions.ChangeAsync(e => e with
    {
        State = ExecutionState.Ended,
        EndedAt = Now,
        Exit = new ExecutionExit { Reason = reason, ExitCode = 137, Signal = 9, Message = message, WallTime = Now - e.StartedAt },
    });

    /// <summary>The document of a session that begins with a new machine.</summary>
    private async Task<SessionDocument> TemplatedAsync(SessionDocument made, CreateSessionRequest request)
    {
        var template = await FindTemplateAsync(request.Template);
        return made with
        {
            Template = request.Template,
            RequestedBackend = request.Backend,
            Vcpus = request.Vcpus ?? template.Current.Vcpus,
            MemoryMiB = request.MemoryMiB ?? template.Current.MemoryMiB,
            DiskMiB = request.DiskMiB ?? template.Current.DiskMiB,
            Env = new(request.Env, StringComparer.Ordinal),
            Languages = [.. template.Current.Languages],
            Egress = await FirstEgressAsync(made.Tenant, request.Egress, null),
        };
    }

    private async Task<TemplateInfo> FindTemplateAsync(string template)
    {
        try
        {
            return await _grains.GetGrain<ITemplateGrain>(template).GetAsync();
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
        {
            var hosts = await _grains.GetGrain<ISchedulerGrain>(0).ListHostsAsync();
            var known = hosts.SelectMany(h => h.Templates.Keys).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal).ToList();
            throw SandboxException.Invalid(
                "template",
                $"There is no template '{template}'. " + (known.Count > 0 ? $"Known are: {string.Join(", ", known)}." : "No host has any template yet; build one with 'sandbox image build'."));
        }
    }

    private async Task CheckQuotaAsync(string tenant)
    {
        if (_options.MaxSessionsPerTenant <= 0)
        {
            return;
        }

        // Ids spread evenly over the shards: where this one is not half as full as it may be on average, the tenant is well within its quota. A tenant that
        // chooses its ids can so have a sixteenth more than it may, and a create asks one actor instead of eight.
        if (await IndexShard(tenant).CountAsync() < _options.MaxSessionsPerTenant / (2 * ISessionIndexGrain.Shards))
        {
            return;
        }

        var shards = await Task.WhenAll(Enumerable.Range(0, ISessionIndexGrain.Shards).Select(i => _grains.GetGrain<ISessionIndexGrain>($"{tenant}/{i}").CountAsync()));
        var count = shards.Sum();
        if (count >= _options.MaxSessionsPerTenant)
        {
            throw new SandboxException(SandboxErrorCode.ResourceExhausted, $"The tenant has {count} sessions, the most it may have. Delete some first.");
        }
    }

    private ISessionIndexGrain IndexShard(string tenant) => _grains.GetGrain<ISessionIndexGrain>($"{tenant}/{SandboxIds.ShardOf(Id)}");

    private void RequireNotEnded(SessionDocument d)
    {
        if (d.IsFinal)
        {
            throw SandboxException.Conflict($"Session '{Id}' is {SessionStateMachine.Word(d.State)}: {d.Cause}.");
        }
    }

    private async Task QuietlyAsync(Func<Task> action, string what)
    {
        try
        {
            await action();
        }
        catch (Exception e)
        {
            _logger.LogWarning(e, "Session {Session}: {What} failed", Id, what);
        }
    }
}
