using Sandbox.Abstractions;

namespace Sandbox.Client;

/// <summary>Makes calls for a tenant, with deadlines, and repeats those that may be repeated.</summary>
internal sealed class Caller(string tenant, SandboxClientOptions options, bool? mayWake = null, TimeSpan? callTimeout = null)
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(2);

    /// <summary>The same, for calls that carry a choice whether they may resume a paused session.</summary>
    public Caller WithWake(bool choice) => new(tenant, options, choice, callTimeout);

    /// <summary>The same, for calls that may take longer than others.</summary>
    public Caller WithCallTimeout(TimeSpan longer) => new(tenant, options, mayWake, longer);

    /// <summary>One call, once.</summary>
    /// <exception cref="SandboxException">What the callee says; <see cref="SandboxErrorCode.Unavailable"/> where the cluster cannot be reached.</exception>
    public async Task<T> OnceAsync<T>(Func<Task<T>> call, CancellationToken cancellationToken)
    {
        try
        {
            return await InvokeAsync(call, cancellationToken);
        }
        catch (Exception e) when (IsLost(e))
        {
            throw SandboxException.Unavailable($"The cluster did not answer: {e.Message}");
        }
    }

    /// <inheritdoc cref="OnceAsync{T}"/>
    public Task OnceAsync(Func<Task> call, CancellationToken cancellationToken) => OnceAsync(Wrap(call), cancellationToken);

    /// <summary>A call that does nothing twice: repeated while nobody can answer, until the retry deadline.</summary>
    /// <exception cref="SandboxException">What the callee says; the last trouble once the deadline has passed.</exception>
    public async Task<T> RetryAsync<T>(Func<Task<T>> call, CancellationToken cancellationToken)
    {
        var until = Environment.TickCount64 + (long)options.RetryDeadline.TotalMilliseconds;
        var pause = FirstPause;
        while (true)
        {
            try
            {
                return await OnceAsync(call, cancellationToken);
            }
            catch (SandboxException e) when (e.Code == SandboxErrorCode.Unavailable && Environment.TickCount64 < until)
            {
                await Task.Delay(pause, cancellationToken);
                pause = pause * 2 < LongestPause ? pause * 2 : LongestPause;
            }
        }
    }

    /// <inheritdoc cref="RetryAsync{T}"/>
    public Task RetryAsync(Func<Task> call, CancellationToken cancellationToken) => RetryAsync(Wrap(call), cancellationToken);

    /// <summary>Trouble on the way, as opposed to an answer.</summary>
    public static bool IsLost(Exception e) => e is TimeoutException or OrleansException or InvalidOperationException { Source: "Orleans.Core" };

    private async Task<T> InvokeAsync<T>(Func<Task<T>> call, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();

        // Set in a method of its own, so that the caller's context is as before afterwards.
        TenantContext.Set(tenant);
        if (mayWake is { } choice)
        {
            WakeContext.Set(choice);
        }

        return await call().WaitAsync(callTimeout ?? options.CallTimeout, cancellationToken);
    }

    private static Func<Task<bool>> Wrap(Func<Task> call) => async () =>
    {
        await call();
        return true;
    };
}
