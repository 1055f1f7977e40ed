using System.Diagnostics;
using System.Globalization;
using Sandbox.Isolation.Wasm.Tests.Support;
using Xunit;
using static Sandbox.Isolation.Wasm.Tests.Support.WasmFixture;

namespace Sandbox.Isolation.Wasm.Tests;

/// <summary>What the bench compares with: the worker's program, with Wasmtime and nothing of ours around it.</summary>
public sealed class BareTests(WasmFixture host)
{
    [Fact]
    public async Task Bare_Wasmtime_runs_the_images_own_module_as_often_as_asked()
    {
        var (code, said, _) = await MeasureAsync(host.Image, "3");
        Assert.Equal(0, code);
        var lines = said.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal(3, lines.Length);
        Assert.All(lines, l => Assert.All(l.Split(' '), t => Assert.True(double.Parse(t, CultureInfo.InvariantCulture) > 0, l)));
    }

    [Fact]
    public async Task Without_an_image_it_says_so()
    {
        var (code, said, complained) = await MeasureAsync("/nowhere", "3");
        Assert.Equal((1, ""), (code, said));
        Assert.Contains("/nowhere has no quickjs", complained, StringComparison.Ordinal);
    }

    private static async Task<(int Code, string Said, string Complained)> MeasureAsync(params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(Path.Combine(AppContext.BaseDirectory, "wasm-worker", "wasm-worker"), ["measure", .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var complained = process.StandardError.ReadToEndAsync(Token);
        var said = await process.StandardOutput.ReadToEndAsync(Token);
        await process.WaitForExitAsync(Token);
        return (process.ExitCode, said, await complained);
    }
}
