using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Qemu;

namespace Sandbox.Conformance.Backends;

/// <summary>QEMU microVMs, under emulation wherever the tests run, so that results can be compared.</summary>
internal sealed class QemuSubject : Subject
{
    public override string Name => "qemu";

    protected override IIsolationBackend Create(string hostId, string directory) =>
        new QemuBackend(new QemuOptions { HostId = hostId, CacheDirectory = Path.Combine(directory, "cache"), Accelerator = "tcg" }, NullLogger<QemuBackend>.Instance);
}
