using System.Globalization;
using System.Text;
using Sandbox.Conformance.Backends;
using Sandbox.Isolation.Backends;

namespace Sandbox.Conformance.Report;

/// <summary>docs/backends.md, from what a run of the suites found.</summary>
internal static class BackendsDocument
{
    private static readonly (string Name, Func<BackendCapabilities, string> Value)[] Capabilities =
    [
        ("boundary", c => c.Boundary switch
        {
            TrustBoundary.VirtualMachine => "virtual machine",
            TrustBoundary.UserSpaceKernel => "user-space kernel",
            TrustBoundary.WebAssembly => "WebAssembly runtime",
            TrustBoundary.HostKernel => "the host's kernel",
            _ => "none",
        }),
        ("takes untrusted code", c => Yes(c.TakesUntrusted)),
        ("runs any program", c => Yes(c.Processes)),
        ("memory snapshot (pause keeps processes)", c => Yes(c.MemorySnapshot)),
        ("disk snapshot (pause keeps files)", c => Yes(c.DiskSnapshot)),
        ("fork", c => Yes(c.Fork)),
        ("golden snapshot", c => Yes(c.GoldenSnapshot)),
        ("warm pool", c => Yes(c.WarmPool)),
        ("network", c => Yes(c.Network)),
        ("devices (GPU)", c => c.Handover switch { DeviceHandover.Vfio => "yes, by VFIO; not verified on hardware", DeviceHandover.Cdi => "yes, by CDI; not verified on hardware", _ => "no" }),
    ];

    private static readonly (string Key, string Name, string Unit)[] Figures =
    [
        ("cold", "cold: asked for → first result", "ms"), ("warm", "warm: claimed → first result", "ms"), ("exec", "one more execution", "ms"), ("idle", "memory, idle", "MiB"),
    ];

    public static string Write(IReadOnlyDictionary<string, Subject> subjects)
    {
        var shown = Matrix.Names.Where(subjects.ContainsKey).Select(n => subjects[n]).ToList();
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"""
            # Isolation backends

            Written by a run of the conformance and the attack suite (`SANDBOX_BACKENDS_DOCUMENT=docs/backends.md ./scripts/test Sandbox.Conformance`); do not edit. {DateTime.UtcNow:yyyy-MM-dd},
            {Environment.ProcessorCount} cores, {(File.Exists("/dev/kvm") && shown.Any(s => s.Verdict.Accelerator == "kvm") ? "KVM" : "no usable KVM, so QEMU emulates (TCG)")}. Figures are medians of five on a noisy machine: read them as ratios.

            `tests/Sandbox.Conformance` holds every backend to what it declares: what it says it can do is tested, what it does not is refused. A new backend is a class in `Backends/` and a line in `Matrix`.

            ## What each can do


            """);
        Row(text, ["", .. shown.Select(s => $"`{s.Name}`")]);
        Row(text, ["---", .. shown.Select(_ => "---")]);
        Row(text, ["here", .. shown.Select(s => s.Verdict.Usable ? $"{s.Verdict.Version}{(s.Verdict.Accelerator.Length > 0 ? $" ({s.Verdict.Accelerator})" : "")}" : $"not usable: {s.Verdict.Reason}")]);
        foreach (var (name, value) in Capabilities)
        {
            Row(text, [name, .. shown.Select(s => value(s.Can))]);
        }

        Row(text, ["conformance tests passed", .. shown.Select(s => s.Verdict.Usable ? $"{s.Findings.Passed.Count}" : "not verified here")]);
        foreach (var (key, name, unit) in Figures)
        {
            Row(text, [name, .. shown.Select(s => s.Findings.Measured.TryGetValue(key, out var v) ? string.Create(CultureInfo.InvariantCulture, $"{v:0.#} {unit}") : "–")]);
        }

        text.Append("""

            ## Attacks

            Each was run in a machine beside a neighbour. After each the host was as before, the neighbour had noticed nothing, and the attacked session went on or had ended and said so.


            """);
        var attacked = shown.Where(s => s.Findings.Attacks.Count > 0).ToList();
        Row(text, ["attack", .. attacked.Select(s => $"`{s.Name}`")]);
        Row(text, ["---", .. attacked.Select(_ => "---")]);
        foreach (var attack in attacked.SelectMany(s => s.Findings.Attacks.Keys).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
        {
            Row(text, [attack, .. attacked.Select(s => s.Findings.Attacks.GetValueOrDefault(attack, "–"))]);
        }

        return text.ToString();
    }

    private static string Yes(bool can) => can ? "yes" : "no";

    private static void Row(StringBuilder text, IEnumerable<string> cells) => text.Append("| ").AppendJoin(" | ", cells.Select(c => c.Replace("|", "\\|", StringComparison.Ordinal).ReplaceLineEndings(" "))).AppendLine(" |");
}
