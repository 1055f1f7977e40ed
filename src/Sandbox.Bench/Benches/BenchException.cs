namespace Sandbox.Bench.Benches;

/// <summary>Why a bench cannot be run, or why what it measured is worth nothing. Fit for people.</summary>
internal sealed class BenchException(string message, Exception? inner = null) : Exception(message, inner);
