using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Network;
using Sandbox.Isolation.Null;
using Sandbox.Isolation.Oci;
using Sandbox.Isolation.Qemu;
using Sandbox.Isolation.Wasm;

namespace Sandbox.Server;

// The isolation backends that this process offers.
public sealed partial class SandboxServer
{
    private static void AddBackends(IServiceCollection services, ServerOptions options)
    {
        if (options.Backends.Contains("qemu"))
        {
            services.AddSingleton<IIsolationBackend>(s => new QemuBackend(
                new QemuOptions
                {
                    HostId = HostIdOf(s),
                    CacheDirectory = Path.Combine(options.DataDirectory, "cache"),
                    VerdictDirectory = Environment.IsPrivilegedProcess ? options.ImageRoot : null,
                    RuntimeRoot = RuntimeRoot,
                    Accelerator = options.Accelerator,
                    ProbeImage = new ImageStore(options.ImageRoot).FindBootable,
                    Network = NetworkOf(options),
                },
                s.GetRequiredService<ILogger<QemuBackend>>()));
        }

        AddFirecracker(services, options);
        AddContainers(services, options, "oci", OciTier.HostKernel);
        AddContainers(services, options, "gvisor", OciTier.Gvisor);
        if (options.Backends.Contains("wasm"))
        {
            services.AddSingleton<IIsolationBackend>(s => new WasmBackend(
                new WasmOptions { HostId = HostIdOf(s), ImageRoot = options.ImageRoot, RuntimeRoot = RuntimeRoot, CacheDirectory = Path.Combine(options.DataDirectory, "cache") },
                s.GetRequiredService<ILogger<WasmBackend>>()));
        }

        if (options.NullBackend)
        {
            NullImages.Ensure(options.ImageRoot);
            var live = options.NullLiveDirectory.Length > 0 ? options.NullLiveDirectory : null;
            services.AddSingleton<IIsolationBackend>(s => new NullBackend(
                new NullOptions { HostId = HostIdOf(s), LiveDirectory = live, Devices = options.NullDevices, RuntimeRoot = live is null ? null : Path.Combine(live, "machines") },
                s.GetRequiredService<ILogger<NullBackend>>()));
        }
    }

    private static void AddContainers(IServiceCollection services, ServerOptions options, string name, OciTier tier)
    {
        if (options.Backends.Contains(name))
        {
            services.AddSingleton<IIsolationBackend>(s => new OciBackend(
                tier,
                new OciOptions
                {
                    HostId = HostIdOf(s),
                    CacheDirectory = Path.Combine(options.DataDirectory, "cache"),
                    RuntimeRoot = RuntimeRoot,
                    ProbeImage = new ImageStore(options.ImageRoot).FindBootable,
                    CdiDirectories = options.Devices.CdiDirectories,
                    Network = NetworkOf(options),
                },
                s.GetRequiredService<ILogger<OciBackend>>()));
        }
    }

    /// <summary>How machines' networks are made; the same ranges count as public for the firewall as for the proxy.</summary>
    private static GuestNetworkOptions NetworkOf(ServerOptions options) => new()
    {
        NotPublic = [.. NotPublicRanges.Default.Where(n => !options.Egress.AlsoPublic.Contains(n))],
    };

    /// <summary>Where backends keep what belongs to running machines: sockets, process records.</summary>
    private static string RuntimeRoot =>
        Environment.IsPrivilegedProcess ? "/run/sandbox" : Path.Combine(Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR") ?? "/tmp", "sandbox");

    private static string HostIdOf(IServiceProvider services) => services.GetRequiredService<IOptions<Sandbox.Grains.HostOptions>>().Value.HostId;
}
