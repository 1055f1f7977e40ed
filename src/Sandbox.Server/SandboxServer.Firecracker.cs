using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker;
using Sandbox.Isolation.Images;

namespace Sandbox.Server;

// The Firecracker backend of this process.
public sealed partial class SandboxServer
{
    private static void AddFirecracker(IServiceCollection services, ServerOptions options)
    {
        if (options.Backends.Contains("firecracker"))
        {
            services.AddSingleton<IIsolationBackend>(s => new FirecrackerBackend(
                new FirecrackerOptions
                {
                    HostId = HostIdOf(s),
                    CacheDirectory = Path.Combine(options.DataDirectory, "cache"),
                    VerdictDirectory = Environment.IsPrivilegedProcess ? options.ImageRoot : null,
                    RuntimeRoot = RuntimeRoot,
                    ProbeImage = new ImageStore(options.ImageRoot).FindBootable,
                },
                s.GetRequiredService<ILogger<FirecrackerBackend>>()));
        }
    }
}
