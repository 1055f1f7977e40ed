using System.Text;
using Sandbox.Abstractions;
using Sandbox.Client.Output;

namespace Sandbox.Client;

/// <summary>One execution.</summary>
public sealed class SandboxExecution
{
    private readonly SandboxSession _session;
    private readonly IGrainFactory _grains;

    internal SandboxExecution(SandboxSession session, IGrainFactory grains, ExecutionInfo info)
    {
        _session = session;
        _grains = grains;
        Started = info;
    }

    /// <summary>Execution id.</summary>
    public string Id => Started.Id;

    /// <summary>The execution as it was when this object was made.</summary>
    public ExecutionInfo Started { get; }

    /// <summary>The execution now.</summary>
    public Task<ExecutionInfo> GetAsync(CancellationToken cancellationToken = default) =>
        _session.Client.Caller.RetryAsync(() => _session.Executions.GetExecutionAsync(Id), cancellationToken);

    /// <summary>
    /// The execution's output from a number on, each event once and in order, to its exit: what is past from the log, what is to come as it happens. Any number
    /// of readers, at any time; the loss of a silo or a gateway is bridged within the retry deadline of the options.
    /// </summary>
    /// <param name="fromSeq">First event wanted; 1: all.</param>
    /// <param name="cancellationToken">Stops reading.</param>
    /// <exception cref="SandboxException">There is no such log (any more), or nobody could be reached before the deadline.</exception>
    public IAsyncEnumerable<OutputEvent> ReadOutputAsync(long fromSeq = 1, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(fromSeq, 1);
        var log = _grains.GetGrain<IOutputGrain>($"{Started.HostId}/{Started.SessionId}/{Id}");
        var caller = _session.Client.Caller;
        var feed = OutputFeed.ForStream(_session.Client.Streams, Id, caller);
        return OutputReader.ReadAsync(
            (from, wait, ct) => caller.OnceAsync(() => log.ReadAsync(from, wait), ct), feed, _session.Client.Options, fromSeq, cancellationToken);
    }

    /// <summary>Waits for the end. Reads the log's last event, so it is as sure as the output itself.</summary>
    public async Task<ExecutionExit> WaitForExitAsync(CancellationToken cancellationToken = default)
    {
        await foreach (var e in ReadOutputAsync(1, cancellationToken))
        {
            if (e.Kind == OutputKind.Exit)
            {
                return e.ReadExit();
            }
        }

        throw new SandboxException(SandboxErrorCode.Internal, $"The output of execution {Id} ended without an exit.");
    }

    /// <summary>Reads all output to the end as text. For small outputs: it is held in memory.</summary>
    public async Task<(string Stdout, string Stderr, ExecutionExit Exit)> CollectAsync(CancellationToken cancellationToken = default)
    {
        using var stdout = new MemoryStream();
        using var stderr = new MemoryStream();
        await foreach (var e in ReadOutputAsync(1, cancellationToken))
        {
            switch (e.Kind)
            {
                case OutputKind.Stdout or OutputKind.Pty:
                    stdout.Write(e.Data);
                    break;
                case OutputKind.Stderr:
                    stderr.Write(e.Data);
                    break;
                case OutputKind.Exit:
                    return (Encoding.UTF8.GetString(stdout.GetBuffer(), 0, (int)stdout.Length), Encoding.UTF8.GetString(stderr.GetBuffer(), 0, (int)stderr.Length), e.ReadExit());
            }
        }

        throw new SandboxException(SandboxErrorCode.Internal, $"The output of execution {Id} ended without an exit.");
    }

    /// <summary>Writes to standard input, in pieces of at most 64 KiB. Waits while the guest's buffer is full. Not repeated on failure: nobody knows how much arrived.</summary>
    public async Task WriteStdinAsync(ReadOnlyMemory<byte> data, bool endOfFile = false, CancellationToken cancellationToken = default)
    {
        const int piece = 64 * 1024;
        do
        {
            var part = data[..Math.Min(piece, data.Length)];
            data = data[part.Length..];
            await _session.Client.Caller.OnceAsync(() => _session.Executions.WriteStdinAsync(Id, part, endOfFile && data.Length == 0), cancellationToken);
        }
        while (data.Length > 0);
    }

    /// <summary>Sends a signal (1 to 31) to the process group.</summary>
    public Task SignalAsync(int signal, CancellationToken cancellationToken = default) =>
        _session.Client.Caller.OnceAsync(() => _session.Executions.SignalAsync(Id, signal), cancellationToken);

    /// <summary>Resizes the terminal.</summary>
    public Task ResizeAsync(TerminalSize size, CancellationToken cancellationToken = default) =>
        _session.Client.Caller.RetryAsync(() => _session.Executions.ResizeAsync(Id, size), cancellationToken);
}
