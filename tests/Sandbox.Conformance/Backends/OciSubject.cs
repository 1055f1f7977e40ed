using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Oci;

namespace Sandbox.Conformance.Backends;

/// <summary>Containers: on the host's kernel, or on gVisor's.</summary>
internal sealed class OciSubject(OciTier tier) : Subject
{
    public override string Name => tier == OciTier.Gvisor ? "gvisor" : "oci";

    public override string TraceHost => $"{HostId}-{Name}";

    protected override IIsolationBackend Create(string hostId, string directory) => new OciBackend(
        tier, new OciOptions { HostId = hostId, CacheDirectory = Path.Combine(directory, "cache"), ProbeImage = () => Image }, NullLogger<OciBackend>.Instance);
}
