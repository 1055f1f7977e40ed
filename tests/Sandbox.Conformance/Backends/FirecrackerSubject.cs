using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Firecracker;

namespace Sandbox.Conformance.Backends;

/// <summary>Firecracker, where there is one and a KVM that boots a guest: elsewhere its tests are skipped and say why.</summary>
internal sealed class FirecrackerSubject : Subject
{
    public override string Name => "firecracker";

    protected override IIsolationBackend Create(string hostId, string directory) => new FirecrackerBackend(
        new FirecrackerOptions { HostId = hostId, CacheDirectory = Path.Combine(directory, "cache"), ProbeImage = () => Image }, NullLogger<FirecrackerBackend>.Instance);
}
