using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Runtime;
using Sandbox.Grains.Sessions;

namespace Sandbox.Grains.Hosts;

/// <summary>
/// Pauses the sessions of a host that is being stopped, while the silo still serves calls: whoever follows an execution goes on reading it after the restart, or on another host. What cannot be saved in
/// time is lost with its machine, as when the host crashes.
/// </summary>
internal sealed class HostDrain(HostRuntime runtime, IGrainFactory grains, IOptions<HostOptions> options, ILogger<HostDrain> logger) : IHostedLifecycleService
{
    /// <summary>Saving is compression: more than the cores at once makes none of them earlier.</summary>
    private static readonly int AtOnce = Math.Max(2, Environment.ProcessorCount);

    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        if (options.Value.DrainTimeout <= TimeSpan.Zero)
        {
            return;
        }

        var sessions = runtime.BeginDraining();
        if (sessions.Count == 0)
        {
            return;
        }

        logger.LogInformation("Host {Host} is being stopped: pausing {Count} sessions", runtime.HostId, sessions.Count);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(options.Value.DrainTimeout);
        try
        {
            await Parallel.ForEachAsync(sessions, new ParallelOptions { MaxDegreeOfParallelism = AtOnce, CancellationToken = limit.Token }, DrainAsync);
        }
        catch (OperationCanceledException)
        {
            logger.LogWarning("Not all sessions of host {Host} could be paused within {Limit}: the others lose what runs in them", runtime.HostId, options.Value.DrainTimeout);
        }
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private async ValueTask DrainAsync(string session, CancellationToken cancellationToken)
    {
        try
        {
            TenantContext.Set(TenantContext.System);
            await grains.GetGrain<ISessionDrain>(session).DrainAsync(runtime.HostId).WaitAsync(cancellationToken);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            logger.LogWarning(e, "Session {Session} could not be paused before its host stops", session);
        }
    }
}
