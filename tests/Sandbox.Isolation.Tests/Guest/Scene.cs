using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Xunit;

namespace Sandbox.Isolation.Tests.Guest;

/// <summary>A connection in the middle of its life: a command (stream 1), code (2), a watch (3) and a directory listing that waits for its answer (4).</summary>
public sealed class Scene : IAsyncDisposable
{
    public const ulong Command = 1, Code = 2, Watch = 3, Pending = 4;

    public const int Window = 4096;

    public required FakeGuest Guest { get; init; }

    public required GuestConnection Host { get; init; }

    public required IGuestExecution CommandExecution { get; init; }

    public required IGuestExecution CodeExecution { get; init; }

    public required IGuestWatch WatchStream { get; init; }

    public required Task<Response> Listing { get; init; }

    public static async Task<Scene> BeginAsync(GuestConnectionOptions? options = null)
    {
        var (guest, host) = await FakeGuest.ConnectAsync(options);
        var (_, command) = await guest.StartAsync(host, FakeGuest.Command(stdin: true, window: Window));
        var code = new StartExecution { ExecutionId = "x2", OutputWindow = Window, Code = new Code { ContextId = "c", Source = "1" }, Artifacts = new WatchArtifacts() };
        var (_, codeExecution) = await guest.StartAsync(host, code);
        var watching = host.WatchAsync(new Watch { Path = "/w" }, CancellationToken.None);
        var frame = await guest.ReceiveAsync();
        Assert.Equal(Watch, frame.Stream);
        await guest.AnswerAsync(Watch, new Response { Empty = new Empty() });
        var watch = await watching.WaitAsync(FakeGuest.Patience);
        var listing = host.RequestAsync(new Request { List = new ListDirectory { Path = "/", Limit = 10 } }, CancellationToken.None);
        Assert.Equal(Pending, (await guest.ReceiveAsync()).Stream);
        return new Scene
        {
            Guest = guest,
            Host = host,
            CommandExecution = command,
            CodeExecution = codeExecution,
            WatchStream = watch,
            Listing = listing,
        };
    }

    public async ValueTask DisposeAsync()
    {
        await Host.DisposeAsync();
        await Guest.DisposeAsync();
        await Listing.ContinueWith(t => _ = t.Exception, TaskScheduler.Default);
    }
}
