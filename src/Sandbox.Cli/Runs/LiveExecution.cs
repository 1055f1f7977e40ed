using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using Sandbox.Cli.Api;
using Sandbox.Cli.Terminal;

namespace Sandbox.Cli.Runs;

/// <summary>
/// Runs one command in a session as if it ran here: its bytes to our standard output and error, our Ctrl-C to it (the second one kills), its exit code ours.
/// </summary>
internal sealed class LiveExecution(SandboxApi api, string session, Say say) : IDisposable
{
    private const int StdinPiece = 32 * 1024;
    private readonly List<PosixSignalRegistration> _signals = [];
    private int _interrupts;

    public void Dispose() => _signals.ForEach(s => s.Dispose());

    /// <summary>Starts and follows it to its end.</summary>
    /// <param name="request">Body of the start call.</param>
    /// <param name="forwardInput">Send our standard input along.</param>
    /// <param name="cancellationToken">Gives up waiting; the execution is left alone.</param>
    public async Task<Outcome> RunAsync(JsonObject request, bool forwardInput, CancellationToken cancellationToken)
    {
        if (forwardInput)
        {
            request["openStdin"] = true;
        }

        var execution = SandboxApi.Text(await api.StartAsync(session, request, cancellationToken), "id");
        Forward(PosixSignal.SIGINT, execution, "INT");
        Forward(PosixSignal.SIGTERM, execution, "TERM");
        Forward(PosixSignal.SIGHUP, execution, "HUP");
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var input = forwardInput ? FeedAsync(execution, ended.Token) : Task.CompletedTask;

        await using var stdout = Console.OpenStandardOutput();
        await using var stderr = Console.OpenStandardError();
        Outcome? outcome = null;
        await foreach (var item in api.Output.FollowAsync(session, execution, cancellationToken))
        {
            switch (item.Kind)
            {
                case "stdout" or "pty":
                    await WriteAsync(stdout, item.Bytes, execution);
                    break;
                case "stderr":
                    await WriteAsync(stderr, item.Bytes, execution);
                    break;
                case "notice":
                    say.Note(item.Data["text"]?.ToString() ?? "");
                    break;
                case "artifact":
                    say.Note(ArtifactLine.Of(item.Data));
                    break;
                case "exit":
                    outcome = Outcome.Of(item.Data);
                    break;
            }
        }

        await ended.CancelAsync();
        _ = input;
        return outcome ?? throw new UserException("the output ended without an exit", ExitCodes.SandboxFailed);
    }

    /// <summary>Our reader may have gone (`| head`): then the code has nobody to write to, as with a pipe.</summary>
    private async Task WriteAsync(Stream target, byte[] bytes, string execution)
    {
        try
        {
            await target.WriteAsync(bytes);
            await target.FlushAsync();
        }
        catch (IOException)
        {
            await api.SignalAsync(session, execution, "PIPE", CancellationToken.None);
        }
    }

    private void Forward(PosixSignal signal, string execution, string name) =>
        _signals.Add(PosixSignalRegistration.Create(signal, context =>
        {
            context.Cancel = true;
            var count = Interlocked.Increment(ref _interrupts);
            if (count > 2)
            {
                // It does not even die: leave, the session's own limits will end it.
                Environment.Exit(130);
            }

            _ = SendAsync(execution, count == 1 ? name : "KILL");
        }));

    private async Task SendAsync(string execution, string name)
    {
        try
        {
            await api.SignalAsync(session, execution, name, CancellationToken.None);
        }
        catch (Exception e) when (e is ApiException or UserException or HttpRequestException)
        {
            say.Note($"the signal could not be sent: {e.Message}");
        }
    }

    private async Task FeedAsync(string execution, CancellationToken cancellationToken)
    {
        try
        {
            await using var stdin = Console.OpenStandardInput();
            var buffer = new byte[StdinPiece];
            for (int n; (n = await stdin.ReadAsync(buffer, cancellationToken)) > 0;)
            {
                await api.StdinAsync(session, execution, buffer.AsMemory(0, n), false, cancellationToken);
            }

            await api.StdinAsync(session, execution, ReadOnlyMemory<byte>.Empty, true, cancellationToken);
        }
        catch (OperationCanceledException)
        {
            // The execution has ended; what it did not read is nobody's.
        }
        catch (ApiException)
        {
            // It closed its input, or ended.
        }
    }
}
