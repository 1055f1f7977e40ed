using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Firecracker;
using Sandbox.Isolation.Images;
using Sandbox.Server;

namespace Sandbox.Cli.Doctor;

/// <summary>Whether Firecracker can be used here. Where it is not installed that is a fact and no fault: another backend serves.</summary>
internal static class FirecrackerFindings
{
    private const string Area = "isolation";
    private const string Name = "firecracker";

    public static async Task<IReadOnlyList<Finding>> LookAsync(ServerOptions options, bool probe, CancellationToken cancellationToken)
    {
        if (!options.Backends.Contains(Name))
        {
            return [];
        }

        var firecracker = new FirecrackerOptions
        {
            HostId = "doctor",
            CacheDirectory = Path.Combine(options.DataDirectory, "cache"),
            VerdictDirectory = Environment.IsPrivilegedProcess ? options.ImageRoot : null,
            RuntimeRoot = Path.Combine(Path.GetTempPath(), "sandbox-doctor"),
            ProbeImage = new ImageStore(options.ImageRoot).FindBootable,
        };
        if (!File.Exists(firecracker.Binary))
        {
            return [new Finding(Area, Name, Verdict.Fact, $"not installed (there is no {firecracker.Binary})")];
        }

        if (!probe)
        {
            return [new Finding(Area, Name, Verdict.Fact, $"{firecracker.Binary}; not tried (--no-probe)")];
        }

        var verdict = await new FirecrackerBackend(firecracker, NullLogger<FirecrackerBackend>.Instance).ProbeAsync(cancellationToken);
        return
        [
            new Finding(Area, Name, verdict.Usable ? Verdict.Good : Verdict.Warning, $"{verdict.Version}: {verdict.Reason}".TrimStart(':', ' '), verdict.Usable ? null : "see docs/firecracker.md; sessions on other backends are not concerned"),
            .. verdict.Warnings.Select(w => new Finding(Area, Name, Verdict.Warning, w)),
        ];
    }
}
