using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;
using Orleans.Runtime.MembershipService.SiloMetadata;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts;
using Sandbox.Grains.Hosts.Leases;
using Sandbox.Grains.Hosts.Placement;
using Sandbox.Grains.Hosts.Runtime;
using Sandbox.Grains.Output;
using Sandbox.Grains.Tenants;

namespace Sandbox.Grains;

/// <summary>Puts the actors and the host runtime into a silo.</summary>
public static class SandboxGrainsExtensions
{
    /// <summary>
    /// Adds the actors, the host runtime, the placement of pinned grains, the tenant filter and the memory streams <see cref="OutputStreams.Provider"/> that
    /// carry live output. The caller adds what differs between set-ups: clustering, grain storage named <see cref="StorageNames.Provider"/> and
    /// <see cref="StorageNames.PubSub"/>, a reminder service, and the isolation backends (as singletons of
    /// <see cref="Isolation.Backends.IIsolationBackend"/>).
    /// </summary>
    /// <param name="silo">The silo.</param>
    /// <param name="host">Sets what this host offers. Called at once, because the silo announces the host's id.</param>
    /// <param name="sessions">Sets defaults and ceilings of sessions.</param>
    /// <exception cref="InvalidDataException">The host id is not of the form of one.</exception>
    public static ISiloBuilder AddSandboxGrains(this ISiloBuilder silo, Action<HostOptions>? host = null, Action<SessionOptions>? sessions = null)
    {
        ArgumentNullException.ThrowIfNull(silo);
        var options = new HostOptions();
        host?.Invoke(options);
        options.HostId = HostIdentity.LoadOrCreate(options);

        var services = silo.Services;
        services.AddSingleton(Options.Create(options));
        services.AddOptions<SessionOptions>();
        if (sessions is not null)
        {
            services.Configure(sessions);
        }

        services.TryAddSingleton<IOutputLogs>(s => new StoredOutputLogs(options.OutputDirectory, SandboxClock.Of(s)));
        services.AddSingleton<HostRuntime>();
        services.AddHostedService<HostDrain>();
        services.AddSingleton<ILifecycleParticipant<ISiloLifecycle>>(s => s.GetRequiredService<HostRuntime>());

        silo.UseSiloMetadata(new Dictionary<string, string> { [HostPinnedPlacement.MetadataKey] = options.HostId });
        silo.AddPlacementDirector<HostPinnedPlacement, HostPinnedPlacementDirector>();
        silo.AddIncomingGrainCallFilter<TenantCallFilter>();
        silo.AddMemoryStreams(OutputStreams.Provider, ConfigureOutputStreams);
        return silo;
    }

    /// <summary>
    /// Few queues and a short pulling period: the stream only wakes readers of the log, so what matters is how soon. (Its idle cost: see docs/sessions.md.)
    /// </summary>
    private static void ConfigureOutputStreams(ISiloMemoryStreamConfigurator streams)
    {
        streams.ConfigurePartitioning(OutputStreams.Queues);
        streams.ConfigurePullingAgent(o => o.Configure(p => p.GetQueueMsgsTimerPeriod = TimeSpan.FromMilliseconds(5)));
    }
}
