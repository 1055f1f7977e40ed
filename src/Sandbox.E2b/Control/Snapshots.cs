using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.Gateway;

namespace Sandbox.E2b.Control;

/// <summary>Snapshots that outlive their sandboxes: sealed sessions.</summary>
internal sealed class Snapshots(IGrainFactory grains, Sandboxes sandboxes, GatewayOptions gateway)
{
    public async Task<IResult> CreateAsync(string id, HttpContext context)
    {
        var body = await ControlJson.ReadAsync<SnapshotBody>(context, gateway);
        if (body.Name is { } name && (name.Length is 0 or > 100 || name.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('-' or '_' or '.' or ':' or '/'))))
        {
            throw SandboxException.Invalid("name", "A snapshot's name has 1 to 100 letters, digits and -_.:/ characters.");
        }

        var info = await sandboxes.FindAsync(id);
        var session = grains.GetGrain<ISessionCheckpoints>(info.Id);
        var checkpoint = await session.CreateCheckpointAsync(null, null);
        try
        {
            Dictionary<string, string> metadata = new(StringComparer.Ordinal) { [Labels.Template] = Labels.Get(info, Labels.Template) ?? info.Template };
            if (body.Name is not null)
            {
                metadata[Labels.SnapshotName] = body.Name;
            }

            var request = new CreateSessionRequest { From = new CheckpointReference(info.Id, checkpoint.Id), Sealed = true, WakeOnCall = false, Metadata = metadata };
            var made = await sandboxes.SettleAsync(await grains.GetGrain<ISessionGrain>(SandboxIds.NewSession()).CreateAsync(request, null), context.RequestAborted);
            return made.State == SessionState.Paused
                ? ControlJson.Answer(ModelOf(made), StatusCodes.Status201Created)
                : throw SandboxException.Unavailable($"The snapshot could not be kept: {made.Cause}");
        }
        finally
        {
            await session.DeleteCheckpointAsync(checkpoint.Id);
        }
    }

    public async Task<IResult> ListAsync(HttpContext context)
    {
        var query = context.Request.Query;
        var (sandbox, name) = (query["sandboxID"].ToString(), query["name"].ToString());
        return await Listing.PageAsync(context, sandboxes.ListAsync(isSealed: true, newestFirst: false, query["nextToken"]), s =>
            (sandbox.Length == 0 || s.Origin?.SessionId == E2bIds.ToSession(sandbox)) && (name.Length == 0 || Labels.Get(s, Labels.SnapshotName) == name), ModelOf);
    }

    public async Task<IResult> DeleteAsync(string id)
    {
        var found = await FindAsync(id) ?? throw SandboxException.NotFound($"There is no snapshot '{id}'. Templates are removed with 'sandbox image', not over this API.");
        await grains.GetGrain<ISessionGrain>(found.Id).TerminateAsync(null);
        return Results.NoContent();
    }

    /// <summary>A snapshot by id or name; the newest of a name.</summary>
    public async Task<SessionInfo?> FindAsync(string idOrName)
    {
        if (E2bIds.ToSession(idOrName) is { } session)
        {
            return await sandboxes.GetOrNullAsync(session) is { Sealed: true, State: SessionState.Paused } found ? found : null;
        }

        await foreach (var (info, _) in sandboxes.ListAsync(isSealed: true, newestFirst: true, null))
        {
            if (Labels.Get(info, Labels.SnapshotName) == idOrName)
            {
                return info;
            }
        }

        return null;
    }

    /// <summary>What a session made of it begins with.</summary>
    public async Task<CheckpointReference> ReferenceAsync(SessionInfo snapshot)
    {
        var checkpoints = await grains.GetGrain<ISessionCheckpoints>(snapshot.Id).ListCheckpointsAsync();
        return new CheckpointReference(snapshot.Id, checkpoints[0].Id);
    }

    private static SnapshotModel ModelOf(SessionInfo info) => new(E2bIds.ToSandbox(info.Id), Labels.Get(info, Labels.SnapshotName) is { } name ? [name] : []);
}
