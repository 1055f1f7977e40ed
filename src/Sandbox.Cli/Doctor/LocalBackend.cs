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
                ProbeImage = () => FindBootable(new ImageStore(options.ImageRoot)),
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
                ProbeImage = () => FindBootable(new ImageStore(options.ImageRoot)),
            },
            NullLogger<OciBackend>.Instance);
    }

    private static string? FindBootable(ImageStore images) =>
        images.Templates.Select(images.FindCurrent).OfType<string>().FirstOrDefault(d => TemplateImage.Load(d).Kind == TemplateImage.LinuxKind);

    /// <summary>The WebAssembly backend, the same way.</summary>
    public static WasmBackend CreateWasm(ServerOptions options, string purpose) => new(
        new WasmOptions { HostId = purpose, ImageRoot = options.ImageRoot, RuntimeRoot = Path.Combine(Path.GetTempPath(), "sandbox-" + purpose), CacheDirectory = Path.Combine(options.DataDirectory, "cache") },
        NullLogger<WasmBackend>.Instance);
}
