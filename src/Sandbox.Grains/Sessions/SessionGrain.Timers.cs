using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;

namespace Sandbox.Grains.Sessions;

/// <summary>The session's clock: a grain timer for precision while it is active, a reminder so that time passes also when it is not.</summary>
internal sealed partial class SessionGrain
{
    private const string ReminderName = "session";
    private static readonly TimeSpan ReminderFloor = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan ReminderPeriod = TimeSpan.FromMinutes(5);
    private IGrainTimer? _timer;
    private bool _ticking;

    public async Task ReceiveReminder(string reminderName, TickStatus status)
    {
        TenantContext.Set(TenantContext.System);
        await TickAsync();
        if (Document.State != SessionState.None)
        {
            await QuietlyAsync(ArmReminderAsync, "arming the reminder");
        }
    }

    private void StartClock() => _timer ??= this.RegisterGrainTimer(
        TickAsync, new GrainTimerCreationOptions(_options.ClockPeriod, _options.ClockPeriod) { Interleave = true });

    private async Task TickAsync()
    {
        if (_ticking)
        {
            return;
        }

        _ticking = true;
        try
        {
            await QuietlyAsync(CheckClockAsync, "looking at the clock");
        }
        finally
        {
            _ticking = false;
        }
    }

    private async Task CheckClockAsync()
    {
        var d = Document;
        if (d.State == SessionState.None)
        {
            return;
        }

        if (d.IsFinal)
        {
            await CheckRetentionAsync();
            return;
        }

        if (Now >= d.ExpiresAt)
        {
            await EndAsync($"at the end of its lifetime of {Describe(d.MaxLifetime)}", null);
            return;
        }

        if (d.State != SessionState.Running)
        {
            BeginBringUp();
            return;
        }

        if (_executions.HasRunning)
        {
            Touch();
        }

        if (Now - LastActivity() >= d.IdleTimeout)
        {
            await EndAsync($"idle for {Describe(d.IdleTimeout)}", null);
        }
        else if (_lastActivity - d.LastActivityAt > Quarter(d.IdleTimeout))
        {
            await StoreActivityAsync();
        }
    }

    /// <summary>A final state stays readable for a while; what could not be removed is tried again; then nothing is left.</summary>
    private async Task CheckRetentionAsync()
    {
        var d = Document;
        if (Now - d.StateChangedAt < _options.Retention)
        {
            if (d.State == SessionState.Terminated && d.HostsUsed.Count > 0 && Now >= _nextCleanUp)
            {
                _nextCleanUp = Now + ReminderFloor;
                await CleanUpAsync();
            }

            return;
        }

        if (Now < _nextCleanUp)
        {
            return;
        }

        _nextCleanUp = Now + ReminderFloor;
        await CleanUpAsync();
        if (Document.HostsUsed.Count > 0 && Now - d.StateChangedAt < 7 * _options.Retention)
        {
            return;
        }

        await _executions.ClearAsync();
        if (await this.GetReminder(ReminderName) is { } reminder)
        {
            await this.UnregisterReminder(reminder);
        }

        await _session.ClearAsync();
        DeactivateOnIdle();
    }

    private DateTimeOffset _nextCleanUp;

    private DateTimeOffset LastActivity() => _lastActivity > Document.LastActivityAt ? _lastActivity : Document.LastActivityAt;

    private Task<SessionDocument> StoreActivityAsync()
    {
        var at = _lastActivity;
        return _session.UpdateAsync(d => d.State == SessionState.Running && at > d.LastActivityAt ? d with { LastActivityAt = at } : d);
    }

    /// <summary>The reminder is due when the session's next deadline is, never sooner than Orleans allows; from then on it repeats until it is set anew.</summary>
    private Task ArmReminderAsync()
    {
        var d = Document;
        if (d.State == SessionState.None)
        {
            return Task.CompletedTask;
        }

        var deadline = d switch
        {
            { IsFinal: true, State: SessionState.Terminated, HostsUsed.Count: > 0 } => Now,
            { IsFinal: true } => d.StateChangedAt + _options.Retention,
            { State: SessionState.Running } => Min(LastActivity() + d.IdleTimeout, d.ExpiresAt),
            _ => Now,
        };
        var due = deadline - Now;
        return this.RegisterOrUpdateReminder(ReminderName, due < ReminderFloor ? ReminderFloor : due, ReminderPeriod);
    }

    private static DateTimeOffset Min(DateTimeOffset a, DateTimeOffset b) => a < b ? a : b;

    private static TimeSpan Quarter(TimeSpan time)
    {
        var quarter = time / 4;
        return quarter > ReminderFloor ? ReminderFloor : quarter;
    }

    private static string Describe(TimeSpan time) => time.TotalMinutes >= 1 && time.Seconds == 0 ? $"{time.TotalMinutes:0} minutes" : $"{time.TotalSeconds:0} seconds";
}
