using Microsoft.Extensions.Logging;
using Sandbox.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>What the host says of itself.</summary>
internal sealed partial class HostRuntime
{
    private readonly Dictionary<string, BackendVerdict> _verdicts = new(StringComparer.Ordinal);
    private readonly Dictionary<string, TemplateImage> _manifests = new(StringComparer.Ordinal);

    private readonly SemaphoreSlim _reporting = new(1, 1);

    /// <summary>The host now.</summary>
    public HostReport Report()
    {
        var templates = Templates();
        var devices = _devices.Report(_backends.Values);
        lock (_gate)
        {
            return new HostReport
            {
                HostId = HostId,
                At = _clock.GetUtcNow(),
                MemoryMiB = _options.EffectiveMemoryMiB,
                MemoryLeasedMiB = LeasedMiB(),
                Cpus = Environment.ProcessorCount,
                MicroVms = _machines.Count,
                MaxMicroVms = _options.EffectiveMaxMicroVms,
                Backends = [.. _backends.Values.Select(Describe)],
                Templates = templates.ToDictionary(t => t.Template, t => t.Version, StringComparer.Ordinal),
                TemplateKinds = templates.ToDictionary(t => t.Template, t => t.Kind, StringComparer.Ordinal),
                Draining = _draining,
                Devices = devices,
                Warm = _pools.GroupBy(p => p.Key.Template, StringComparer.Ordinal).ToDictionary(g => g.Key, g => g.Sum(p => p.Value.Ready), StringComparer.Ordinal),
            };
        }
    }

    private HostBackend Describe(IIsolationBackend backend)
    {
        var known = _verdicts.GetValueOrDefault(backend.Name);
        var verdict = known ?? new BackendVerdict(false, "", "It is still being tried out.", "", []);
        return new HostBackend
        {
            Name = backend.Name,
            Usable = verdict.Usable,
            Accelerator = verdict.Accelerator,
            Reason = verdict.Reason,
            Version = verdict.Version,
            Warnings = verdict.Warnings,
            Boundary = (IsolationBoundary)backend.Capabilities.Boundary,
            TakesUntrusted = backend.Capabilities.TakesUntrusted,
            DiskSnapshot = backend.Capabilities.DiskSnapshot && _snapshots is not null,
            Fork = backend.Capabilities.Fork && _snapshots is not null,
            Processes = backend.Capabilities.Processes,
            Network = backend.Capabilities.Network,
            Devices = backend.Capabilities.Devices,
            ImageKind = backend.ImageKind,
            Probing = known is null,
            MemorySnapshot = backend.Capabilities.MemorySnapshot && _snapshots is not null,
        };
    }

    /// <summary>Current versions of all templates here. Manifests never change once written, so each is read once.</summary>
    private List<TemplateImage> Templates()
    {
        var found = new List<TemplateImage>();
        foreach (var template in _images.Templates.Where(ImageStore.IsTemplateName))
        {
            if (_images.FindCurrent(template) is not { } directory)
            {
                continue;
            }

            try
            {
                lock (_manifests)
                {
                    if (!_manifests.TryGetValue(directory, out var image))
                    {
                        _manifests[directory] = image = TemplateImage.Load(directory);
                    }

                    found.Add(image);
                }
            }
            catch (Exception e) when (e is IOException or InvalidDataException or UnauthorizedAccessException)
            {
                _logger.LogWarning(e, "Template {Template} on host {Host} cannot be read", template, HostId);
            }
        }

        return found;
    }

    private async Task ProbeAsync(CancellationToken cancellationToken)
    {
        foreach (var backend in _backends.Values)
        {
            BackendVerdict verdict;
            try
            {
                verdict = await backend.ProbeAsync(cancellationToken);
            }
            catch (Exception e) when (!cancellationToken.IsCancellationRequested)
            {
                verdict = new BackendVerdict(false, "", "The probe failed: " + e.Message, "", []);
            }

            _logger.LogInformation(
                "Backend {Backend} on host {Host}: usable {Usable} ({Accelerator}); {Reason}", backend.Name, HostId, verdict.Usable, verdict.Accelerator, verdict.Reason);
            lock (_gate)
            {
                _verdicts[backend.Name] = verdict;
            }

            TenantContext.Set(TenantContext.System);
            await ReportQuietlyAsync();
        }
    }

    private async Task ReportAsync(CancellationToken cancellationToken)
    {
        // In the order in which they were made: an older one that overtook a newer one would offer what is gone.
        await _reporting.WaitAsync(cancellationToken);
        try
        {
            await _grains.GetGrain<ISchedulerGrain>(0).ReportAsync(Report());
        }
        finally
        {
            _reporting.Release();
        }

        foreach (var image in Templates())
        {
            await _grains.GetGrain<ITemplateGrain>(image.Template).ReportAsync(HostId, new TemplateVersion
            {
                Version = image.Version,
                BuiltAt = image.BuiltAt,
                Vcpus = image.Sizes.Vcpus,
                MemoryMiB = image.Sizes.MemoryMiB,
                DiskMiB = image.Sizes.DiskMiB,
                DefaultUser = image.DefaultUser,
                DefaultDirectory = image.DefaultDirectory,
                Languages = image.Languages,
            });
        }
    }

    private async Task ReportQuietlyAsync()
    {
        try
        {
            TenantContext.Set(TenantContext.System);
            await ReportAsync(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(5));
        }
        catch (Exception e)
        {
            _logger.LogDebug(e, "Host {Host} could not report now", HostId);
        }
    }
}
