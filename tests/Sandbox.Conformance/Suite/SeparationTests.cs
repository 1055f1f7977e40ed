using System.Globalization;
using Sandbox.Conformance.Backends;
using Sandbox.Guest.Protocol;
using Xunit;

namespace Sandbox.Conformance.Suite;

/// <summary>Two machines of one image have nothing in common but the image.</summary>
public sealed class SeparationTests(Subjects subjects) : ConformanceTest(subjects)
{
    [Theory, ClassData(typeof(Matrix))]
    public async Task Siblings_differ_in_files_randomness_and_names_and_know_the_time(string backend)
    {
        var subject = await SubjectAsync(backend);
        var (a, b) = (await subject.SharedAsync("shared", Ct), await subject.SharedAsync("neighbour", Ct));
        await WriteAsync(a, "only-a", [1]);
        Assert.Equal(ErrorCode.NotFound, (await RefusedAsync(b, new Request { Stat = new StatPath { Path = "only-a" } })).Code);

        const string Random = "import os, random, time\nprint(os.urandom(8).hex()); print(random.random()); print(time.time())";
        var language = subject.Languages.Contains("python") ? "python" : "javascript";
        var code = language == "python" ? Random : "console.log(Math.random()); console.log(Math.random()); console.log(Date.now() / 1000)";
        var first = (await CodeAsync(a, await Subject.ContextAsync(a, language, Ct), code)).Stdout.Split('\n');
        var second = (await CodeAsync(b, await Subject.ContextAsync(b, language, Ct), code)).Stdout.Split('\n');
        Assert.NotEqual(first[0], second[0]);
        Assert.NotEqual(first[1], second[1]);
        Assert.InRange(double.Parse(first[2], CultureInfo.InvariantCulture), DateTimeOffset.UtcNow.ToUnixTimeSeconds() - 60, DateTimeOffset.UtcNow.ToUnixTimeSeconds() + 5);
        if (subject.Can.Processes)
        {
            var names = (await Task.WhenAll(ShellAsync(a, "hostname; cat /etc/machine-id"), ShellAsync(b, "hostname; cat /etc/machine-id"))).Select(r => r.Stdout.Split('\n')).ToArray();
            Assert.NotEqual(names[0][0], names[1][0]);
            Assert.NotEqual(names[0][1], names[1][1]);
        }

        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task There_is_no_network_unless_it_was_given_one_and_that_leads_nowhere_by_itself(string backend)
    {
        var subject = await WithProcessesAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        Assert.Equal(subject.Can.Network ? "eth0\nlo\n" : "lo\n", (await ShellAsync(vm, "ls /sys/class/net 2>/dev/null || tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '")).Stdout);

        // Nobody listens in it yet: it leads nowhere.
        Assert.Equal(subject.Can.Network, vm.Network is not null);
        Assert.NotEqual(0, (await ShellAsync(vm, "timeout 20 bash -c 'echo >/dev/tcp/1.1.1.1/443'")).Exited.ExitCode);
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task Metrics_are_those_of_the_machine(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        var metrics = (await AskAsync(vm, new Request { Metrics = new GetMetrics() })).Metrics;
        Assert.InRange(metrics.MemoryTotal, 1UL << 20, (ulong)subject.Sizes.MemoryMiB << 20);
        Assert.InRange(metrics.DiskTotal, 1UL << 20, (ulong)subject.Sizes.DiskMiB << 20);
        Assert.True(metrics.MemoryAvailable <= metrics.MemoryTotal && metrics.DiskFree <= metrics.DiskTotal, metrics.ToString());
        Passed(subject);
    }
}
