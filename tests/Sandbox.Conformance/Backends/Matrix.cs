using Sandbox.Isolation.Oci;
using Xunit;

namespace Sandbox.Conformance.Backends;

/// <summary>The backends under test. A new one is a class and a line.</summary>
public sealed class Matrix : TheoryData<string>
{
    private static readonly Dictionary<string, Func<Subject>> Makers = new(StringComparer.Ordinal)
    {
        ["qemu"] = () => new QemuSubject(),
        ["firecracker"] = () => new FirecrackerSubject(),
        ["gvisor"] = () => new OciSubject(OciTier.Gvisor),
        ["wasm"] = () => new WasmSubject(),
        ["oci"] = () => new OciSubject(OciTier.HostKernel),
    };

    public Matrix()
    {
        // SANDBOX_CONFORMANCE names those that are wanted, for work on one.
        var wanted = Environment.GetEnvironmentVariable("SANDBOX_CONFORMANCE")?.Split(',');
        foreach (var name in Makers.Keys.Where(n => wanted is null || wanted.Contains(n)))
        {
            Add(name);
        }
    }

    /// <summary>All names, in the order of the document.</summary>
    public static IReadOnlyList<string> Names => [.. Makers.Keys];

    public static Subject Make(string name) => Makers[name]();
}
