using System.Diagnostics;
using Sandbox.Bench.Benches;
using Sandbox.Bench.Measuring;

namespace Sandbox.Bench.Machines;

/// <summary>Booting bare QEMU, with the backend's own arguments, to an agent that answers.</summary>
internal static class RawBoots
{
    /// <summary>Three boots.</summary>
    /// <exception cref="BenchException">Two hung; with the console's last lines.</exception>
    public static async Task<Distribution> MeasureAsync(BenchContext context, CancellationToken cancellationToken)
    {
        await using var own = new OwnBackend(context);
        await using var recipe = await RawRecipe.TakeAsync(own, cancellationToken);
        var times = new List<TimeSpan>();
        for (var (done, hung) = (0, 0); done < 3;)
        {
            long began = 0;
            try
            {
                await using var machine = await RawMachine.BootAsync(recipe, () => began = Stopwatch.GetTimestamp(), cancellationToken);
                times.Add(Stopwatch.GetElapsedTime(began));
                context.Say($"raw boot {++done}/3: {times[^1].TotalMilliseconds:0} ms");
            }
            catch (BenchException e) when (++hung < 2)
            {
                // Under emulation a boot hangs now and then; the backend has a watchdog for it, the raw machine has this. Twice means something else.
                context.Say($"a raw boot failed and is left out: {e.Message}");
            }
        }

        return Distribution.OfMilliseconds(times);
    }
}
