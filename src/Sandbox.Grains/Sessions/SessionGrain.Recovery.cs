using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Grains.Sessions.State;

namespace Sandbox.Grains.Sessions;

/// <summary>Noticing that the microVM is gone, and coming back.</summary>
internal sealed partial class SessionGrain
{
    /// <summary>Generation whose microVM has been seen alive by this activation. 0: look before the next use.</summary>
    private long _verified;
    private Task? _verifying;

    public async Task OnMicroVmEndedAsync(long generation, string reason) => await BeginRecoveryAsync(generation, reason, byItself: true);

    /// <summary>
    /// A microVM was lost. Stored as Resuming first; then the session is brought back beside the calls, or fails if it happens too often that the machine ends by itself. That its host was restarted, or is away, is no
    /// fault of the session's: a server that is restarted some times in a row must not cost its sessions their lives.
    /// </summary>
    private async Task BeginRecoveryAsync(long generation, string reason, bool byItself)
    {
        var now = Now;
        var loop = false;
        await _session.UpdateAsync(d =>
        {
            if (d.State != SessionState.Running || d.Generation != generation)
            {
                return d;
            }

            var losses = d.Losses.Where(l => now - l < _options.CrashLoopWindow).Concat(byItself ? [now] : []).ToList();
            loop = byItself && losses.Count >= _options.CrashLoopLimit;
            return loop ? d with { Losses = losses } : SessionStateMachine.Move(d, SessionState.Resuming, reason, now) with { Losses = losses, Resume = null };
        });
        _verified = 0;
        if (loop)
        {
            await FailAsync($"its microVM was lost {_options.CrashLoopLimit} times within {_options.CrashLoopWindow.TotalMinutes:0.#} minutes; last: {reason}", generation);
        }
        else if (Document.State == SessionState.Resuming)
        {
            BeginBringUp();
        }
    }

    /// <summary>
    /// The session in state Running with a microVM that is known to live. Waits for one that is being created or brought back, wakes one that is paused (if the call may), and begins to bring
    /// back one whose microVM is gone (after a restart of the server nobody else would notice).
    /// </summary>
    private async Task<SessionDocument> RequireRunningAsync()
    {
        RequireExists();
        var mayWake = WakeContext.MayWake ?? (Document.WakeOnCall || Document.ToBeWoken);
        var woken = false;
        if (Document.State != SessionState.Paused || mayWake)
        {
            Touch();
        }

        var deadline = Environment.TickCount64 + (long)LongestWait.TotalMilliseconds;
        while (true)
        {
            var d = Document;
            RequireNotEnded(d);
            if (d.State == SessionState.Running)
            {
                if (_verified == d.Generation)
                {
                    return d;
                }

                await VerifyAsync();
                continue;
            }

            if (d.State == SessionState.Paused)
            {
                if (woken)
                {
                    throw SandboxException.Unavailable($"Session '{Id}' is paused still: {d.Cause}.");
                }

                woken = true;
                await WakeAsync(mayWake);
                continue;
            }

            var left = TimeSpan.FromMilliseconds(deadline - Environment.TickCount64);
            if (left <= TimeSpan.Zero)
            {
                throw SandboxException.Unavailable($"Session '{Id}' is still {SessionStateMachine.Word(d.State)}" + (d.Cause is null ? "" : $" ({d.Cause})") + ". Try again later.");
            }

            BeginBringUp();
            ContinuePause();
            await WaitSettledAsync(left);
        }
    }

    private async Task VerifyAsync()
    {
        // One look for all who wait.
        var task = _verifying ??= LookAsync();
        try
        {
            await task;
        }
        finally
        {
            _verifying = null;
        }
    }

    private async Task LookAsync()
    {
        var d = Document;
        var problem = "";
        for (var attempt = 0; attempt < 4; attempt++)
        {
            try
            {
                if (await Machine(d).IsAliveAsync(d.Generation))
                {
                    _verified = d.Generation;
                    return;
                }

                if (await IsAwayAsync(d.HostId!))
                {
                    // Its machines are gone because it is being stopped, most likely with this silo: whoever comes after it brings the session back.
                    problem = "it is being stopped";
                    await Task.Delay(_options.RetryDelay);
                    continue;
                }

                await BeginRecoveryAsync(d.Generation, $"its microVM does not run any more on host {d.HostId}: the host was restarted", byItself: false);
                return;
            }
            catch (Exception e)
            {
                // Not reachable is not dead: bringing it back would kill a machine that only a network hiccup hides.
                problem = e.Message;
                _logger.LogDebug(e, "MicroVM {Vm} cannot be asked now", d.VmId);
                await Task.Delay(_options.RetryDelay);
            }
        }

        await BeginRecoveryAsync(d.Generation, $"its host {d.HostId} cannot be reached: {problem}", byItself: false);
    }

    /// <summary>Asks the microVM something; translates what is not a <see cref="SandboxException"/>, and looks at the machine again before its next use if it was not there.</summary>
    private async Task<T> AskMachineAsync<T>(SessionDocument d, Func<IMicroVmGrain, Task<T>> ask)
    {
        try
        {
            return await ask(Machine(d));
        }
        catch (SandboxException e)
        {
            if (e.Code is SandboxErrorCode.Unavailable && _verified == d.Generation)
            {
                _verified = 0;
            }

            throw;
        }
        catch (Exception e) when (e is TimeoutException or Orleans.Runtime.OrleansException or OperationCanceledException)
        {
            _verified = _verified == d.Generation ? 0 : _verified;
            throw SandboxException.Unavailable($"Host {d.HostId} did not answer: {e.Message}");
        }
    }
}
