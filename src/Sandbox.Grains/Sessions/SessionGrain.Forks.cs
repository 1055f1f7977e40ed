using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;
using Sandbox.Snapshots;

namespace Sandbox.Grains.Sessions;

/// <summary>Going back to a checkpoint, and making other sessions from one.</summary>
internal sealed partial class SessionGrain
{
    private const int MaxForks = 100;

    public async Task<SessionInfo> RollbackAsync(string checkpointId, string? idempotencyKey)
    {
        RequireExists();
        Idempotency.Validate(idempotencyKey);
        if (Idempotency.Find(Document.Keys, idempotencyKey, "rollback", checkpointId) is not null)
        {
            return Info();
        }

        RequireNotEnded(Document);
        RequireNotSealed(Document);
        var checkpoint = Checkpoint(checkpointId);
        RequireMayRollBack(Document);

        // A running machine is given up only for a checkpoint that can be read.
        await VerifyAsync(checkpointId);
        await _session.UpdateAsync(d =>
        {
            RequireNotEnded(d);
            RequireMayRollBack(d);
            if (d.Checkpoints.TrueForAll(c => c.Id != checkpointId))
            {
                throw UnknownCheckpoint(checkpointId);
            }

            var remark = $"rolled back to checkpoint {checkpoint.Number}";

            // Paused at this very checkpoint: nothing has happened since, so executions keep their ids.
            var keeps = d.State == SessionState.Paused && d.Resume is { KeepIds: true } resume && resume.CheckpointId == checkpointId;
            return SessionStateMachine.Move(d, SessionState.Resuming, remark, Now) with
            {
                Resume = new ResumePoint { CheckpointId = checkpointId, KeepIds = keeps, Remark = remark },
                Keys = Idempotency.Add(d.Keys, idempotencyKey, "rollback", checkpointId),
            };
        });
        _verified = 0;
        StartClock();
        BeginBringUp();
        return Info();
    }

    public async Task<IReadOnlyList<SessionInfo>> ForkAsync(int count, string? idempotencyKey)
    {
        RequireExists();
        Idempotency.Validate(idempotencyKey);
        if (count is < 1 or > MaxForks)
        {
            throw SandboxException.Invalid("count", $"{count} is outside 1 to {MaxForks}.");
        }

        var fingerprint = Idempotency.Fingerprint($"{count}");
        var id = Idempotency.Find(Document.Keys, idempotencyKey, "fork", fingerprint)?.Result
            ?? (await OnceAsync(idempotencyKey, () => TakeCheckpointAsync(CheckpointKind.Fork, null, idempotencyKey, "fork", fingerprint))).Id;
        Touch();
        var tenant = Document.Tenant;
        var request = new CreateSessionRequest
        {
            From = new CheckpointReference(Id, id),
            IdleTimeout = Document.IdleTimeout,
            MaxLifetime = Document.MaxLifetime,
            IdleAction = Document.IdleAction,
            Checkpoints = Document.Policy,
            Metadata = Document.Metadata,
            Untrusted = Document.Untrusted,
            RunLimit = Document.RunLimit,
            WakeOnCall = Document.WakeOnCall,
        };

        // The ids follow from the checkpoint's: a repeated call finds the same sessions.
        return await Task.WhenAll(Enumerable.Range(0, count).Select(i => MakeForkAsync(SandboxIds.SessionFor(tenant, $"fork {id} {i}"), request, count)));
    }

    /// <inheritdoc/>
    public Task<SessionSeed> GetSeedAsync(string checkpointId)
    {
        if (Document.State == SessionState.None || Document.Tenant != TenantContext.Current || Document.IsFinal)
        {
            throw SandboxException.Invalid("from", $"There is no session '{Id}' with checkpoints to begin with.");
        }

        var checkpoint = Document.Checkpoints.Find(c => c.Id == checkpointId)
            ?? throw SandboxException.Invalid("from", UnknownCheckpoint(checkpointId).Message);
        return Task.FromResult(new SessionSeed { Session = Document with { Checkpoints = [], Keys = [], Loose = [], Recoveries = [], Pending = null }, Checkpoint = checkpoint });
    }

    private async Task<SessionInfo> MakeForkAsync(string id, CreateSessionRequest request, int siblings)
    {
        TenantContext.Set(Document.Tenant);
        ForkContext.Set(siblings);
        return await _grains.GetGrain<ISessionGrain>(id).CreateAsync(request, id);
    }

    private void RequireMayRollBack(SessionDocument d)
    {
        if (d.State is not (SessionState.Running or SessionState.Paused))
        {
            throw SandboxException.Conflict($"Session '{Id}' is {SessionStateMachine.Word(d.State)}; wait until it runs or is paused, then roll it back.");
        }
    }

    private async Task VerifyAsync(string checkpointId)
    {
        if (_snapshots is null)
        {
            throw new SandboxException(SandboxErrorCode.Unsupported, "The server has no snapshot store.");
        }

        try
        {
            using var reader = await _snapshots.OpenAsync(Document.Tenant, checkpointId, CancellationToken.None);
            await reader.VerifyAsync(CancellationToken.None);
        }
        catch (SnapshotException e)
        {
            throw e.Kind is SnapshotErrorKind.Unavailable
                ? SandboxException.Unavailable($"Session '{Id}' was not rolled back: {e.Message}")
                : new SandboxException(SandboxErrorCode.Internal, $"Session '{Id}' was not rolled back: {e.Message}");
        }
    }

    /// <summary>The document of a session that begins with a checkpoint of another.</summary>
    private async Task<SessionDocument> SeededAsync(SessionDocument made, CreateSessionRequest request, CheckpointReference from)
    {
        var seed = await _grains.GetGrain<ISessionSeeds>(from.SessionId).GetSeedAsync(from.CheckpointId);
        var (session, checkpoint) = (seed.Session, seed.Checkpoint);
        RefuseOther("template", request.Template is CreateSessionRequest.DefaultTemplate or null || request.Template == session.Template);
        RefuseOther("backend", request.Backend is null || request.Backend == session.Backend);
        RefuseOther("vcpus", request.Vcpus is null || request.Vcpus == session.Vcpus);
        RefuseOther("memoryMiB", request.MemoryMiB is null || request.MemoryMiB == session.MemoryMiB);
        RefuseOther("diskMiB", request.DiskMiB is null || request.DiskMiB == session.DiskMiB);
        RefuseOther("env", request.Env.Count == 0);
        var origin = checkpoint with { Id = SandboxIds.NewCheckpoint(), Number = 1, Name = null, Kind = CheckpointKind.Origin, StoredBytes = 0, CreatedAt = Now };
        return made with
        {
            Template = session.Template,
            TemplateVersion = session.TemplateVersion,
            RequestedBackend = session.RequestedBackend,
            Backend = session.Backend,
            Vcpus = session.Vcpus,
            MemoryMiB = session.MemoryMiB,
            DiskMiB = session.DiskMiB,
            Env = session.Env,
            Languages = session.Languages,

            // Where the checkpoint's memory may still be at hand.
            HostId = session.HostId,
            Untrusted = session.Untrusted || request.Untrusted,
            Needs = Both(session.Needs, request.Needs),
            Egress = await FirstEgressAsync(made.Tenant, request.Egress, session.Egress),
            Origin = new SessionOrigin(from.SessionId, from.CheckpointId, checkpoint.CreatedAt),
            Checkpoints = [origin],
            LastCheckpoint = 1,
            Resume = new ResumePoint { CheckpointId = origin.Id, CopyOf = from.CheckpointId, Siblings = ForkContext.Siblings },
        };
    }

    private static SessionNeeds Both(SessionNeeds session, SessionNeeds request) => session with
    {
        MemorySnapshot = session.MemorySnapshot || request.MemorySnapshot,
        Network = session.Network || request.Network,
        Boundary = (IsolationBoundary?)Math.Max((int)(session.Boundary ?? 0), (int)(request.Boundary ?? 0)) is { } most and not IsolationBoundary.None ? most : null,
        Devices = request.Devices.Count > 0 ? request.Devices : session.Devices,
    };

    private static void RefuseOther(string field, bool same)
    {
        if (!same)
        {
            throw SandboxException.Invalid(field, $"A session that begins with a checkpoint takes its {field} from there; leave it out.");
        }
    }
}
