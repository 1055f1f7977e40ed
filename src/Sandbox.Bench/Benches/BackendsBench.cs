using System.Diagnostics;
using Sandbox.Bench.Machines;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Images;

namespace Sandbox.Bench.Benches;

/// <summary>Every isolation backend that works here: cold start, warm start, one more execution, memory of an idle machine; the bare tools beside them.</summary>
internal sealed class BackendsBench : IBench
{
    private const string ExecTarget = "one more execution in an OCI container ≤ 0.1 × runc exec of the same";

    public string Name => "backends";

    public string Summary => "cold, warm, one more execution and idle memory of every backend, beside runc, bubblewrap, raw QEMU and raw Wasmtime";

    public IReadOnlyList<string> Targets => [ExecTarget];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        var samples = context.SamplesOr(15);
        var rows = new List<Row>();
        var notes = new List<string>();
        var runcExec = await BareAsync(samples, rows, notes, context, cancellationToken);
        Distribution? oci = null;
        foreach (var name in MeasuredBackend.Names)
        {
            if (!MeasuredBackend.HasImage(name, context))
            {
                notes.Add($"{name}: there is no image for it in {context.ImageRoot} (sandbox image build {MeasuredBackend.TemplateOf(name)})");
                continue;
            }

            await using var measured = MeasuredBackend.Make(name, context);
            var verdict = await measured.Backend.ProbeAsync(cancellationToken);
            if (!verdict.Usable)
            {
                notes.Add($"{name}: not usable here: {verdict.Reason}");
                continue;
            }

            context.Say($"{name}: {verdict.Version} {verdict.Accelerator}");
            await measured.PrepareAsync(cancellationToken);
            var exec = await MeasureAsync(measured, samples, rows, context, cancellationToken);
            oci = name == "oci" ? exec : oci;
        }

        if (oci is null || runcExec is null)
        {
            throw new BenchException("the target compares OCI containers with runc, and one of them does not work here: apt-get install runc; " + string.Join("; ", notes));
        }

        var ratio = oci.Median / runcExec.Median;
        return new BenchResult
        {
            Name = Name,
            Headline = new Figure("oci_exec_p50_ms", oci.Median),
            Baseline = new Figure("runc exec of the same echo", runcExec.Median),
            Ratio = ratio,
            Verdicts = [new Verdict(ExecTarget, ratio, 0.1)],
            Rows = rows,
            Notes = notes,
        };
    }

    private static async Task<Distribution?> BareAsync(int samples, List<Row> rows, List<string> notes, BenchContext context, CancellationToken cancellationToken)
    {
        Distribution? exec = null;
        if (RawContainers.Has("runc"))
        {
            context.Say("runc and bubblewrap, bare");
            await using var raw = new RawContainers(Path.Combine(context.Image, TemplateImage.Load(context.Image).Root));
            rows.Add(new Row("bare: runc run, cold", "ms", await SampleAsync(samples, () => raw.RunAsync(cancellationToken))));
            exec = await SampleAsync(samples, () => raw.ExecAsync(cancellationToken));
            rows.Add(new Row("bare: runc exec", "ms", exec));
        }

        if (RawContainers.Has("bwrap"))
        {
            rows.Add(new Row("bare: bubblewrap, cold", "ms", await SampleAsync(samples, () => RawContainers.BubblewrapAsync(cancellationToken))));
        }
        else
        {
            notes.Add("bubblewrap is not installed (apt-get install bubblewrap)");
        }

        try
        {
            rows.Add(new Row("bare: QEMU, boot to agent", "ms", await RawBoots.MeasureAsync(context, cancellationToken)));
        }
        catch (Exception e) when (e is BenchException or IsolationException)
        {
            notes.Add($"raw QEMU did not boot: {e.Message}");
        }

        if (await RawWasmtime.MeasureAsync(samples, context, cancellationToken) is { } wasmtime)
        {
            rows.Add(new Row("bare: Wasmtime, store to first value", "ms", wasmtime.Cold));
            rows.Add(new Row("bare: Wasmtime, one more script", "ms", wasmtime.More));
        }
        else
        {
            notes.Add($"raw Wasmtime was not measured: there is no image of WebAssembly in {context.ImageRoot} (sandbox image build wasm)");
        }

        return exec;
    }

    private static async Task<Distribution> MeasureAsync(MeasuredBackend measured, int samples, List<Row> rows, BenchContext context, CancellationToken cancellationToken)
    {
        var (cold, warm, exec, idle) = (new List<TimeSpan>(), new List<TimeSpan>(), new List<TimeSpan>(), new List<double>());
        await using (var first = await measured.Backend.StartAsync(measured.Spec(), cancellationToken))
        {
            // A host's first machine pays for what all later ones find there.
            await measured.RunAsync(first.Guest, cancellationToken);
        }

        for (var i = 0; i < samples; i++)
        {
            var began = Stopwatch.GetTimestamp();
            await using var vm = await measured.Backend.StartAsync(measured.Spec(), cancellationToken);
            cold.Add(Stopwatch.GetElapsedTime(began, await measured.RunAsync(vm.Guest, cancellationToken)));
            exec.Add(await ExecAsync(measured, vm.Guest, cancellationToken));
            exec.Add(await ExecAsync(measured, vm.Guest, cancellationToken));
            if (measured.IdleMiB(vm.Owner.VmId) is { } mib)
            {
                idle.Add(mib);
            }
        }

        for (var i = 0; i < samples && measured.Backend.Capabilities.WarmPool; i++)
        {
            var spec = measured.Spec();
            await using var vm = await measured.Backend.PrepareAsync(spec with { Owner = spec.Owner with { SessionId = "", Generation = 0 } }, cancellationToken)
                ?? throw new BenchException($"{measured.Backend.Name} made no machine for its warm pool");
            var began = Stopwatch.GetTimestamp();
            await vm.ClaimAsync(new MicroVmClaim(spec.Owner.SessionId, 1, "bench", spec.DiskPath + ".claimed"), cancellationToken);
            warm.Add(Stopwatch.GetElapsedTime(began, await measured.RunAsync(vm.Guest, cancellationToken)));
        }

        var name = measured.Backend.Name;
        var execution = Distribution.OfMilliseconds(exec);
        rows.Add(new Row($"{name}: cold, to first output", "ms", Distribution.OfMilliseconds(cold)));
        if (warm.Count > 0)
        {
            rows.Add(new Row($"{name}: warm, claim to first output", "ms", Distribution.OfMilliseconds(warm)));
        }

        rows.Add(new Row($"{name}: one more execution", "ms", execution));
        if (idle.Count > 0)
        {
            rows.Add(new Row($"{name}: memory of an idle machine", "MiB", Distribution.Of(idle)));
        }

        context.Say($"{name}: cold {Distribution.OfMilliseconds(cold).Median:0} ms, one more execution {execution.Median:0.0} ms");
        return execution;
    }

    private static async Task<TimeSpan> ExecAsync(MeasuredBackend measured, IGuest guest, CancellationToken cancellationToken)
    {
        var began = Stopwatch.GetTimestamp();
        return Stopwatch.GetElapsedTime(began, await measured.RunAsync(guest, cancellationToken));
    }

    private static async Task<Distribution> SampleAsync(int samples, Func<Task<TimeSpan>> one)
    {
        await one();
        var times = new List<TimeSpan>();
        for (var i = 0; i < samples; i++)
        {
            times.Add(await one());
        }

        return Distribution.OfMilliseconds(times);
    }
}
