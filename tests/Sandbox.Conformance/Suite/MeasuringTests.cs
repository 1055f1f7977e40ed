using System.Diagnostics;
using System.Globalization;
using Sandbox.Conformance.Backends;
using Sandbox.Isolation.Backends;
using Xunit;

namespace Sandbox.Conformance.Suite;

/// <summary>Figures for the document. No figure decides a test: they are taken where the tests run, and that is noisy.</summary>
public sealed class MeasuringTests(Subjects subjects) : ConformanceTest(subjects)
{
    private const int Samples = 5;

    [Theory, ClassData(typeof(Matrix))]
    public async Task Cold_warm_and_exec_times_and_idle_memory_are_taken(string backend)
    {
        Assert.SkipUnless(Environment.GetEnvironmentVariable("SANDBOX_BACKENDS_DOCUMENT") is { Length: > 0 }, "Figures are taken when the document is written: SANDBOX_BACKENDS_DOCUMENT=docs/backends.md");
        var subject = await SubjectAsync(backend);
        var (cold, warm, exec) = (new List<double>(), new List<double>(), new List<double>());
        var before = IdleMemory.OfWorkers(subject);
        await using (var first = await subject.StartAsync(Ct))
        {
            // Beside the first machine of a host come costs that no later one has.
            await FirstResultAsync(subject, first);
        }

        for (var i = 0; i < Samples; i++)
        {
            var clock = Stopwatch.StartNew();
            await using var vm = await subject.StartAsync(Ct);
            await FirstResultAsync(subject, vm);
            cold.Add(clock.Elapsed.TotalMilliseconds);
            var run = await RunnerAsync(subject, vm);
            await run();
            for (var j = 0; j < Samples; j++)
            {
                clock.Restart();
                await run();
                exec.Add(clock.Elapsed.TotalMilliseconds);
            }

            if (i == 0)
            {
                subject.Findings.Measured["idle"] = IdleMemory.Of(subject, vm.Owner.VmId, before);
            }
        }

        for (var i = 0; subject.Can.WarmPool && i < Samples; i++)
        {
            var spec = subject.Spec();
            await using var vm = await subject.Backend.PrepareAsync(spec with { Owner = spec.Owner with { SessionId = "", Generation = 0 } }, Ct);
            Assert.NotNull(vm);
            var clock = Stopwatch.StartNew();
            await vm.ClaimAsync(new MicroVmClaim("ses_" + spec.Owner.VmId, 1, "claimed", Path.Combine(subject.Directory, "disks", spec.Owner.VmId + "-claimed.img")), Ct);
            await FirstResultAsync(subject, vm);
            warm.Add(clock.Elapsed.TotalMilliseconds);
        }

        subject.Findings.Measured["cold"] = Median(cold);
        subject.Findings.Measured["exec"] = Median(exec);
        if (warm.Count > 0)
        {
            subject.Findings.Measured["warm"] = Median(warm);
        }

        TestContext.Current.TestOutputHelper?.WriteLine(string.Join(", ", subject.Findings.Measured.Select(m => string.Create(CultureInfo.InvariantCulture, $"{m.Key} {m.Value:0.0}"))));
    }

    /// <summary>The first thing that anybody would do: a command, or code where there are no commands.</summary>
    private static async Task FirstResultAsync(Subject subject, IMicroVm vm) => await (await RunnerAsync(subject, vm))();

    private static async Task<Func<Task>> RunnerAsync(Subject subject, IMicroVm vm)
    {
        if (subject.Can.Processes)
        {
            return async () => Assert.Equal("1\n", (await ShellAsync(vm, "echo 1")).Stdout);
        }

        var context = await Subject.ContextAsync(vm, "javascript", Ct);
        return async () => Assert.Equal("1\n", (await CodeAsync(vm, context, "console.log(1)")).Stdout);
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}
