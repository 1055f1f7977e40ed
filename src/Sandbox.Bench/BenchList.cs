using Sandbox.Bench.Benches;

namespace Sandbox.Bench;

/// <summary>All benches, in the order in which <c>scripts/bench all</c> runs them.</summary>
internal static class BenchList
{
    public static IReadOnlyList<IBench> All { get; } =
        [new WarmBench(), new RestoreBench(), new PauseBench(), new ForkBench(), new StreamBench(), new ControlBench(), new TtiBench(), new E2bBench(), new BackendsBench(), new EgressBench()];
}
