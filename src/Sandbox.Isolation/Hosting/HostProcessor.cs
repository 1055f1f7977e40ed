namespace Sandbox.Isolation.Hosting;

/// <summary>What a guest sees of the host's processor, and counts on from then on: a saved machine is restored only on one like it.</summary>
public static class HostProcessor
{
    /// <summary>Model and features. Read once: every start asks for a fingerprint.</summary>
    public static string Description { get; } = string.Join(
        '\n',
        File.ReadLines("/proc/cpuinfo").Where(l => l.StartsWith("model name", StringComparison.Ordinal) || l.StartsWith("flags", StringComparison.Ordinal)).Distinct());
}
