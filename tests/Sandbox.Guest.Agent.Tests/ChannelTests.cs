using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Guest.Agent.Tests;

public sealed class ChannelTests : IAsyncLifetime
{
    private readonly AgentFixture _agent = new();
    private GuestConnection _guest = null!;

    public async ValueTask InitializeAsync() => _guest = await _agent.ConnectAsync();

    public ValueTask DisposeAsync() => _agent.DisposeAsync();

    [Fact]
    public async Task Output_and_input_survive_cuts_without_gap_or_repeat()
    {
        var start = Starting.Command("sh", "-c", "tee /dev/stderr | cat; exit 5");
        start.Command.OpenStdin = true;
        start.OutputWindow = 128 * 1024;
        var execution = await _guest.StartExecutionAsync(start, CancellationToken.None);
        var data = new byte[2_000_000];
        Random.Shared.NextBytes(data);
        var writing = execution.WriteStdinAsync(data, endOfFile: true, CancellationToken.None).AsTask();
        long received = 0;
        var cuts = 0;
        var outcome = await Outcome.OfAsync(execution, async (_, e) =>
        {
            received += e.Output?.Data.Length ?? 0;
            if (received > (cuts + 1) * 300_000L && cuts < 10)
            {
                cuts++;
                await _guest.ReconnectAsync(await _agent.OpenAsync(CancellationToken.None), CancellationToken.None);
            }
        });
        await writing;
        Assert.Equal((data.Length, data.Length), (outcome.Bytes(OutputFd.Stdout).Length, outcome.Bytes(OutputFd.Stderr).Length));
        Assert.Equal(10, cuts);
        Assert.Equal(data, outcome.Bytes(OutputFd.Stdout));
        Assert.Equal(data, outcome.Bytes(OutputFd.Stderr));
        Assert.Equal(5, outcome.Exited.ExitCode);
    }

    [Fact]
    public async Task Requests_under_way_at_a_cut_are_not_answered_on_the_new_connection()
    {
        for (var round = 0; round < 10; round++)
        {
            var asking = Enumerable.Range(0, 20).Select(async i =>
            {
                try
                {
                    await _guest.AskAsync(new Request { List = new ListDirectory { Path = "/usr/lib", Depth = 2 } });
                }
                catch (GuestUnavailableException)
                {
                    // Lost at the cut, as it may be.
                }
            }).ToArray();
            await _guest.ReconnectAsync(await _agent.OpenAsync(CancellationToken.None), CancellationToken.None);
            await Task.WhenAll(asking);
        }

        Assert.Equal("alive\n", (await _guest.RunAsync(Starting.Command("echo", "alive"))).Stdout);
    }

    [Fact]
    public async Task Garbage_does_no_harm_and_executions_go_on()
    {
        var execution = await _guest.StartExecutionAsync(Starting.Command("sleep", "1000"), CancellationToken.None);
        var random = new Random(1);
        for (var round = 0; round < 30; round++)
        {
            await using var stream = await _agent.OpenAsync(CancellationToken.None);
            var garbage = new byte[random.Next(1, 40_000)];
            random.NextBytes(garbage);
            if (round % 3 == 0)
            {
                ProtocolLimits.Preamble.CopyTo(garbage.Length > 100 ? garbage.AsSpan(50) : new byte[16]);
            }

            try
            {
                await stream.WriteAsync(garbage);
            }
            catch (IOException)
            {
                // The agent need not read all of it.
            }
        }

        await _guest.ReconnectAsync(await _agent.OpenAsync(CancellationToken.None), CancellationToken.None);
        await execution.SignalAsync(9, CancellationToken.None);
        Assert.Equal(9, (await Outcome.OfAsync(execution)).Exited.Signal);
        Assert.True(_agent.IsAlive);
    }

    [Fact]
    public async Task Metrics_and_reseeding_answer()
    {
        var metrics = (await _guest.AskAsync(new Request { Metrics = new GetMetrics() })).Metrics;
        Assert.True(metrics.MemoryTotal > metrics.MemoryAvailable && metrics.Vcpus > 0 && metrics.Processes > 0 && metrics.UptimeMs > 0);
        var e = await Assert.ThrowsAsync<GuestException>(() => _guest.AskAsync(new Request { Reseed = new Reseed { Entropy = Google.Protobuf.ByteString.CopyFrom(new byte[8]) } }));
        Assert.Equal(ErrorCode.InvalidArgument, e.Code);
    }
}
