using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;

namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Golden snapshots: where an image, QEMU or the processor has changed since they were made, new ones are. Until then sessions boot.</summary>
internal sealed partial class HostRuntime
{
    private readonly HashSet<string> _goldenFailed = new(StringComparer.Ordinal);

    private async Task BuildGoldenAsync(CancellationToken cancellationToken)
    {
        foreach (var (backend, image, directory) in Startable().Where(c => c.Backend.Capabilities.GoldenSnapshot))
        {
            if ((await backend.ProbeAsync(cancellationToken)).Usable)
            {
                await BuildGoldenAsync(backend, image, directory, cancellationToken);
            }
        }
    }

    /// <summary>Every template here with every backend that can start it.</summary>
    private List<(IIsolationBackend Backend, TemplateImage Image, string Directory)> Startable() =>
    [
        .. from backend in _backends.Values
           from image in Templates()
           where image.Kind == backend.ImageKind
           select (backend, image, _images.VersionDirectory(image.Template, image.Version)),
    ];

    private static string KeyOf(IIsolationBackend backend, string directory) => backend.Name + " " + directory;

    private async Task BuildGoldenAsync(IIsolationBackend backend, TemplateImage image, string directory, CancellationToken cancellationToken)
    {
        if (_goldenFailed.Contains(KeyOf(backend, directory)))
        {
            return;
        }

        try
        {
            if (await backend.FindGoldenAsync(directory, image.Sizes, cancellationToken) is not null)
            {
                return;
            }

            _logger.LogInformation("Template {Template} {Version} has no golden snapshot for this host; it is booted once to make one", image.Template, image.Version);
            var golden = await backend.BuildGoldenAsync(directory, image.Sizes, cancellationToken);
            _logger.LogInformation("Golden snapshot {Fingerprint} of template {Template} is ready: {MiB} MiB", golden.Fingerprint, image.Template, golden.MemoryBytes >> 20);
        }
        catch (Exception e) when (!cancellationToken.IsCancellationRequested)
        {
            // Not again in this process: sessions boot, and a boot costs less than trying for ever.
            _goldenFailed.Add(KeyOf(backend, directory));
            _logger.LogWarning(e, "The golden snapshot of template {Template} {Version} cannot be made on this host; its sessions boot", image.Template, image.Version);
        }
    }
}
