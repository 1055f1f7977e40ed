using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Oci.Hosting;
using Sandbox.Isolation.Oci.Machine;
using Sandbox.Isolation.Oci.Runtimes;

namespace Sandbox.Isolation.Oci;

// Whether containers run here: found out by running one.
public sealed partial class OciBackend
{
    private const string HostKernelWarning =
        "containers call the host's own kernel: namespaces, cgroups and a system call filter confine them, and a fault of that kernel lets them out. Not for untrusted code; use gvisor or a microVM for that.";

    private static int Probes;

    private readonly SemaphoreSlim _probing = new(1, 1);
    private (BackendVerdict Verdict, ContainerHost? Host)? _verdict;

    private IReadOnlyList<string> Candidates => _options.Runtimes ?? (_tier == OciTier.Gvisor ? ["runsc"] : ["runc", "crun"]);

    /// <inheritdoc/>
    public async Task<BackendVerdict> ProbeAsync(CancellationToken cancellationToken) => (await UsableAsync(cancellationToken)).Verdict;

    private async Task<ContainerHost> RequireUsableAsync(CancellationToken cancellationToken)
    {
        var (verdict, host) = await UsableAsync(cancellationToken);
        return host ?? throw new IsolationException($"The {Name} backend is not usable on this host: {verdict.Reason}");
    }

    /// <summary>The verdict, and what containers are started with where it is a good one.</summary>
    private async Task<(BackendVerdict Verdict, ContainerHost? Host)> UsableAsync(CancellationToken cancellationToken)
    {
        if (_verdict is { } known)
        {
            return known;
        }

        await _probing.WaitAsync(cancellationToken);
        try
        {
            if (_verdict is { } first)
            {
                return first;
            }

            if (Obstacle() is { } obstacle)
            {
                return (Refusal(obstacle), null);
            }

            if (_options.ProbeImage() is not { } image)
            {
                // Not kept: there may be one in a moment.
                return (Refusal("there is no image yet to try it with; build one with: sandbox image build"), null);
            }

            var verdict = await TryAllAsync(image, cancellationToken);
            _verdict = verdict;
            return verdict;
        }
        finally
        {
            _probing.Release();
        }
    }

    private static BackendVerdict Refusal(string reason) => new(false, "", reason, "", []);

    /// <summary>What makes it needless to try.</summary>
    private string? Obstacle() =>
        !Environment.IsPrivilegedProcess ? "the server does not run as root, which making user namespaces with ids of their own, mounts and cgroups takes"
        : _cgroups.Problem is { } problem ? problem
        : !Environment.Is64BitProcess || System.Runtime.InteropServices.RuntimeInformation.OSArchitecture != System.Runtime.InteropServices.Architecture.X64 ? "images are for x86-64"
        : null;

    private async Task<(BackendVerdict Verdict, ContainerHost? Host)> TryAllAsync(string image, CancellationToken cancellationToken)
    {
        List<string> reasons = [];
        foreach (var candidate in Candidates)
        {
            try
            {
                if (await ContainerRuntime.FindAsync(candidate, _options.ProbeDeadline, cancellationToken) is not { } runtime)
                {
                    reasons.Add($"there is no {candidate}; apt-get install {ContainerRuntime.PackageOf(candidate)}");
                    continue;
                }

                var host = new ContainerHost(Name, runtime, _hostRoot, _checkpoints, _cgroups, _ids, _namespaces, new Processors(), _roots, _options.CdiDirectories, _networks is { Available: true } ? _networks : null, _logger);
                _cgroups.Prepare();
                await TryOneAsync(host, image, cancellationToken);
                var before = reasons.Count > 0 ? $" (before it: {string.Join("; ", reasons)})" : "";
                return (new BackendVerdict(true, runtime.Kind, $"a container ran under {runtime.Program}{before}", runtime.Version, await WarningsAsync()), host);
            }
            catch (Exception e) when (e is IsolationException or IOException or UnauthorizedAccessException or GuestException)
            {
                reasons.Add($"{candidate}: {e.Message.Split('\n')[0]}");
            }
        }

        return (Refusal(string.Join("; ", reasons)), null);
    }

    private async Task<IReadOnlyList<string>> WarningsAsync() =>
        [.. _tier == OciTier.HostKernel ? [HostKernelWarning] : (string[])[], .. _networks is not null && await _networks.FindProblemAsync() is { } problem ? [problem] : (string[])[]];

    private async Task TryOneAsync(ContainerHost host, string image, CancellationToken cancellationToken)
    {
        var id = ProbePrefix + Interlocked.Increment(ref Probes);
        var disk = Path.Combine(_options.CacheDirectory, $"{Name}-{id}.img");
        var spec = new MicroVmSpec
        {
            Owner = new MicroVmOwner(id, "", 0),
            ImageDirectory = image,
            Vcpus = 1,
            MemoryMiB = 256,
            DiskMiB = 64,
            DiskPath = disk,
            Hostname = "probe",
        };
        try
        {
            await _disks.EnsureAsync(disk, spec.DiskMiB, cancellationToken);
            await using var vm = await OciMicroVm.StartAsync(host, spec, new ContainerOrigin { Fingerprint = "" }, _options.ProbeDeadline, cancellationToken);

            // A program of another user, and the freezer: what every session and every container of the pool needs.
            await vm.ParkAsync(cancellationToken).WaitAsync(_options.ProbeDeadline, cancellationToken);
        }
        catch (TimeoutException e)
        {
            throw new IsolationException($"its container did not run a program within {_options.ProbeDeadline.TotalSeconds:0} s", e);
        }
        finally
        {
            RemoveFile(disk);
        }
    }
}
