using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.Oci;
using Sandbox.Isolation.Qemu;
using Sandbox.Isolation.Wasm;
using Sandbox.Server;

namespace Sandbox.Cli.Doctor;

/// <summary>Backends for a command that runs without a server.</summary>
internal static class LocalBackend
{
    /// <param name="options">As the server of this machine would have them.</param>
    /// <param name="purpose">Names the runtime directory and the cgroups: <c>[a-z0-9-]{1,20}</c>.</param>
    public static QemuBackend Create(ServerOptions options, string purpose)
    {
        return new QemuBackend(
            new QemuOptions
            {
                HostId = purpose,
                CacheDirectory = Path.Combine(options.DataDirectory, "cache"),
                VerdictDirectory = Environment.IsPrivilegedProcess ? options.ImageRoot : null,
                RuntimeRoot = Path.Combine(Path.GetTempPath(), "sandbox-" + purpose),
                Accelerator = options.Accelerator,
                ProbeImage = new ImageStore(options.ImageRoot).FindBootable,
            },
            NullLogger<QemuBackend>.Instance);
    }

    /// <summary>A backend of containers.</summary>
    /// <param name="options">As the server of this machine would have them.</param>
    /// <param name="tier">Which.</param>
    /// <param name="purpose">Names the runtime directory and the cgroups: <c>[a-z0-9-]{1,20}</c>.</param>
    public static OciBackend CreateContainers(ServerOptions options, OciTier tier, string purpose)
    {
        return new OciBackend(
            tier,
            new OciOptions
            {
                HostId = purpose,

                // Its own: it is given back when the backend is disposed, and a server that runs uses the other.
                CacheDirectory = Path.Combine(Path.GetTempPath(), "sandbox-" + purpose, "cache"),
                RuntimeRoot = Environment.IsPrivilegedProcess ? "/run/sandbox" : Path.Combine(Path.GetTempPath(), "sandbox-" + purpose),
                ProbeImage = new ImageStore(options.ImageRoot).FindBootable,
            },
            NullLogger<OciBackend>.Instance);
    }

    /// <summary>The WebAssembly backend, the same way.</summary>
    public static WasmBackend CreateWasm(ServerOptions options, string purpose) => new(
        new WasmOptions { HostId = purpose, ImageRoot = options.ImageRoot, RuntimeRoot = Path.Combine(Path.GetTempPath(), "sandbox-" + purpose), CacheDirectory = Path.Combine(options.DataDirectory, "cache") },
        NullLogger<WasmBackend>.Instance);
}
