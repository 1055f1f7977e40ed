using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;
using Sandbox.Snapshots;

namespace Sandbox.Grains.Sessions;

/// <summary>A sealed session: a saved state with an owner, a name and a lifetime, but never a machine.</summary>
internal sealed partial class SessionGrain
{
    /// <summary>Makes its snapshot a copy of its own, so that it outlives the session it was taken of; then it is paused for good.</summary>
    private async Task SealAsync()
    {
        var d = Document;
        var resume = d.Resume!;
        try
        {
            var store = _snapshots ?? throw new SandboxException(SandboxErrorCode.Unsupported, "The server has no snapshot store.");
            if (await store.FindAsync(d.Tenant, resume.CheckpointId, CancellationToken.None) is null)
            {
                await store.CopyAsync(d.Tenant, resume.CopyOf!, resume.CheckpointId, Id, CancellationToken.None);
            }
        }
        catch (Exception e) when (e is SnapshotException or SandboxException)
        {
            await FailAsync($"its snapshot could not be copied: {e.Message}", d.Generation);
            return;
        }

        await _session.UpdateAsync(s => s.State == SessionState.Creating
            ? SessionStateMachine.Move(s, SessionState.Paused, "saved, to make others from", Now) with { Resume = resume with { CopyOf = null } }
            : s);
        _logger.LogInformation("Session {Session} is sealed", Id);
        Announce();
        await QuietlyAsync(ArmReminderAsync, "arming the reminder");
    }

    private void RequireNotSealed(SessionDocument d)
    {
        if (d.Sealed)
        {
            throw SandboxException.Conflict($"Session '{Id}' is a saved state and never runs. Create a session from it.");
        }
    }
}
