using System.Diagnostics;
using System.Globalization;
using Sandbox.Bench.Benches;
using Sandbox.Bench.Measuring;
using Sandbox.Isolation.Images;

namespace Sandbox.Bench.Machines;

/// <summary>Bare Wasmtime, with the very QuickJS that sessions run: no machine, no files, no channel, no limits. The worker's program measures it in a process of its own and says what it saw.</summary>
internal static class RawWasmtime
{
    /// <summary>A new store to the first value of a script, and one more script in the same; <see langword="null"/> where there is no image of WebAssembly.</summary>
    /// <exception cref="BenchException">There is one, and it does not run.</exception>
    public static async Task<(Distribution Cold, Distribution More)?> MeasureAsync(int samples, BenchContext context, CancellationToken cancellationToken)
    {
        if (new ImageStore(context.ImageRoot).FindCurrent(MeasuredBackend.TemplateOf("wasm")) is not { } image)
        {
            return null;
        }

        context.Say("Wasmtime, bare");
        var worker = Path.Combine(AppContext.BaseDirectory, "wasm-worker", "wasm-worker");
        using var process = Process.Start(new ProcessStartInfo(worker, ["measure", image, samples.ToString(CultureInfo.InvariantCulture)]) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true })!;
        process.StandardInput.Close();
        var complained = process.StandardError.ReadToEndAsync(cancellationToken);
        var said = await process.StandardOutput.ReadToEndAsync(cancellationToken);
        await process.WaitForExitAsync(cancellationToken);
        return process.ExitCode == 0 ? Read(said, samples) : throw new BenchException($"bare Wasmtime ended with {process.ExitCode}: {(await complained).Trim()}");
    }

    /// <summary>Reads what the worker prints: a line a sample, two times in microseconds.</summary>
    internal static (Distribution Cold, Distribution More) Read(string said, int samples)
    {
        var lines = said.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split(' ').Select(t => double.Parse(t, CultureInfo.InvariantCulture) / 1000).ToArray()).ToList();
        return lines.Count == samples && lines.TrueForAll(l => l.Length == 2)
            ? (Distribution.Of([.. lines.Select(l => l[0])]), Distribution.Of([.. lines.Select(l => l[1])]))
            : throw new BenchException($"bare Wasmtime said {lines.Count} times for {samples} samples");
    }
}
