using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;

namespace Sandbox.Grains.Sessions;

/// <summary>The session's clock: a grain timer for precision while it is active, a reminder so that time passes also when it is not.</summary>
internal sealed partial class SessionGrain
{
    private const string ReminderName = "session";
    private static readonly TimeSpan ReminderFloor = TimeSpan.FromMinutes(1);

    /// <summary>Timers do not reach beyond 49 days; what is due later is looked at again then.</summary>
    private static readonly TimeSpan ReminderCeiling = TimeSpan.FromDays(30);
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

        // A timer runs for nobody, or for whoever's call began it; what it does is the system's business.
        TenantContext.Set(TenantContext.System);
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
            ContinuePause();
            await WakeAfterDrainAsync(d);
            return;
        }

        if (_executions.HasRunning)
        {
            Touch();
        }

        CheckLiveness();
        CheckPolicy(executionEnded: false);
        if (Now >= d.RunsUntil)
        {
            await RestAsync(d, $"at its run limit of {Describe(d.RunLimit!.Value)}");
        }
        else if (Now - LastActivity() >= d.IdleTimeout)
        {
            await RestAsync(d, $"idle for {Describe(d.IdleTimeout)}");
        }
        else if (_lastActivity - d.LastActivityAt > Quarter(d.IdleTimeout))
        {
            await StoreActivityAsync();
        }
    }

    /// <summary>What its owner wants to happen to it when nobody needs it, or its time is up.</summary>
    private async Task RestAsync(SessionDocument d, string cause)
    {
        if (d.IdleAction != IdleAction.Pause || !d.CanSave)
        {
            await EndAsync(cause, null);
        }
        else if (Now >= _nextSave)
        {
            await BeginPauseAsync(cause, null);
        }
    }

    /// <summary>A host that dies tells nobody, and the session may have something running that nobody asks for.</summary>
    private void CheckLiveness()
    {
        if (_nextLook == default)
        {
            _nextLook = Now + _options.LivenessPeriod;
        }
        else if (Now >= _nextLook && _verifying is null)
        {
            _nextLook = Now + _options.LivenessPeriod;
            _ = QuietlyAsync(LookAfterMachineAsync, "looking at its microVM");
        }
    }

    private async Task LookAfterMachineAsync()
    {
        var d = Document;
        try
        {
            if (await Machine(d).IsAliveAsync(d.Generation))
            {
                return;
            }
        }
        catch (Exception e)
        {
            _logger.LogDebug(e, "MicroVM {Vm} cannot be asked now", d.VmId);
        }

        // Its host knows best why a machine ended, and is about to tell.
        await Task.Delay(_options.RetryDelay);
        if (Document.State == SessionState.Running && Document.Generation == d.Generation)
        {
            _verified = 0;
            await VerifyAsync();
        }
    }

    private DateTimeOffset _nextLook;

    /// <summary>A final state stays readable for a while; what could not be removed is tried again; then nothing is left.</summary>
    private async Task CheckRetentionAsync()
    {
        var d = Document;
        if (Now - d.StateChangedAt < _options.Retention)
        {
            if (d.State == SessionState.Terminated && HoldsSomething(d) && Now >= _nextCleanUp)
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
        if (HoldsSomething(Document) && Now - d.StateChangedAt < 7 * _options.Retention)
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
            { IsFinal: true, State: SessionState.Terminated } when HoldsSomething(d) => Now,
            { IsFinal: true } => d.StateChangedAt + _options.Retention,
            { State: SessionState.Running } => Min(LastActivity() + d.IdleTimeout, Min(d.RunsUntil ?? d.ExpiresAt, d.ExpiresAt)),
            { State: SessionState.Paused, ToBeWoken: true } when _executions.HasRunning => Now,
            { State: SessionState.Paused } => d.ExpiresAt,
            _ => Now,
        };
        var due = deadline - Now;
        return this.RegisterOrUpdateReminder(ReminderName, due < ReminderFloor ? ReminderFloor : due > ReminderCeiling ? ReminderCeiling : due, ReminderPeriod);
    }

    private static bool HoldsSomething(SessionDocument d) => !d.Unlisted || d.HostsUsed.Count > 0 || d.Loose.Count > 0 || d.Checkpoints.Count > 0;

    private static DateTimeOffset Min(DateTimeOffset a, DateTimeOffset b) => a < b ? a : b;

    private static TimeSpan Quarter(TimeSpan time)
    {
        var quarter = time / 4;
        return quarter > ReminderFloor ? ReminderFloor : quarter;
    }

    private static string Describe(TimeSpan time) => time.TotalMinutes >= 1 && time.Seconds == 0 ? $"{time.TotalMinutes:0} minutes" : $"{time.TotalSeconds:0} seconds";
}
