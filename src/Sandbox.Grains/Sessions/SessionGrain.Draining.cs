using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;

namespace Sandbox.Grains.Sessions;

/// <summary>Getting out of the way of a host that is being stopped, and coming back.</summary>
internal sealed partial class SessionGrain
{
    public async Task DrainAsync(string hostId)
    {
        if (Document is { State: SessionState.Running, CanSave: true } d && d.HostId == hostId && _snapshots is not null)
        {
            await BeginPauseAsync("its host was stopped", null, toBeWoken: true);
        }

        await _pause;
    }

    /// <summary>Nobody asked for this pause: what was running goes on as soon as there is a host for it.</summary>
    private async Task WakeAfterDrainAsync(SessionDocument d)
    {
        if (d is { State: SessionState.Paused, ToBeWoken: true } && _executions.HasRunning)
        {
            await WakeAsync(mayWake: true);
        }
    }
}
