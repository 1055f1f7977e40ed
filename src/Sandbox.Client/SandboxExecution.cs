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
        _session.Caller.RetryAsync(() => _session.Executions.GetExecutionAsync(Id), cancellationToken);

    /// <summary>
    /// The execution's output from a number on, each event once and in order, to its exit: what is past from the log, what is to come as it happens. Any number
    /// of readers, at any time; the loss of a silo or a gateway is bridged within the retry deadline of the options. A pause of the session is waited out, however long, without waking it, and output is
    /// followed to the host where the session goes on. The output of an execution that was lost may end without an exit: <see cref="GetAsync"/> has it.
    /// </summary>
    /// <param name="fromSeq">First event wanted; 1: all.</param>
    /// <param name="cancellationToken">Stops reading.</param>
    /// <exception cref="SandboxException">There is no such log (any more), or nobody could be reached before the deadline.</exception>
    public IAsyncEnumerable<OutputEvent> ReadOutputAsync(long fromSeq = 1, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(fromSeq, 1);
        var caller = _session.Caller;
        var log = new OutputLog(
            Started.HostId,
            (host, from, wait, ct) => caller.OnceAsync(() => _grains.GetGrain<IOutputGrain>($"{host}/{Started.SessionId}/{Id}").ReadAsync(from, wait), ct),
            LocateAsync,
            _session.Client.Options);
        return OutputReader.ReadAsync(log, OutputFeed.ForStream(_session.Client.Streams, Id, caller), _session.Client.Options, fromSeq, cancellationToken);
    }

    /// <summary>Waits for the end. Reads the log's last event, so it is as sure as the output itself; where the log is gone or cannot be reached, the session knows how it ended.</summary>
    /// <exception cref="SandboxException">Neither of the two could be asked before the deadline, or knows of an end.</exception>
    public async Task<ExecutionExit> WaitForExitAsync(CancellationToken cancellationToken = default)
    {
        SandboxException? trouble = null;
        try
        {
            await foreach (var e in ReadOutputAsync(1, cancellationToken))
            {
                if (e.Kind == OutputKind.Exit)
                {
                    return e.ReadExit();
                }
            }
        }
        catch (SandboxException e) when (e.Code is SandboxErrorCode.NotFound or SandboxErrorCode.Unavailable)
        {
            trouble = e;
        }

        return await ExitFromIndexAsync(trouble, cancellationToken);
    }

    /// <summary>Reads all output to the end as text. For small outputs: it is held in memory.</summary>
    public async Task<(string Stdout, string Stderr, ExecutionExit Exit)> CollectAsync(CancellationToken cancellationToken = default)
    {
        using var stdout = new MemoryStream();
        using var stderr = new MemoryStream();
        ExecutionExit? exit = null;
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
                    exit = e.ReadExit();
                    break;
            }
        }

        exit ??= await ExitFromIndexAsync(null, cancellationToken);
        return (Encoding.UTF8.GetString(stdout.GetBuffer(), 0, (int)stdout.Length), Encoding.UTF8.GetString(stderr.GetBuffer(), 0, (int)stderr.Length), exit);
    }

    /// <summary>Writes to standard input, in pieces of at most 64 KiB. Waits while the guest's buffer is full. Not repeated on failure: nobody knows how much arrived.</summary>
    public async Task WriteStdinAsync(ReadOnlyMemory<byte> data, bool endOfFile = false, CancellationToken cancellationToken = default)
    {
        const int piece = 64 * 1024;
        do
        {
            var part = data[..Math.Min(piece, data.Length)];
            data = data[part.Length..];
            await _session.Caller.OnceAsync(() => _session.Executions.WriteStdinAsync(Id, part, endOfFile && data.Length == 0), cancellationToken);
        }
        while (data.Length > 0);
    }

    /// <summary>Sends a signal (1 to 31) to the process group.</summary>
    public Task SignalAsync(int signal, CancellationToken cancellationToken = default) =>
        _session.Caller.OnceAsync(() => _session.Executions.SignalAsync(Id, signal), cancellationToken);

    /// <summary>Resizes the terminal.</summary>
    public Task ResizeAsync(TerminalSize size, CancellationToken cancellationToken = default) =>
        _session.Caller.RetryAsync(() => _session.Executions.ResizeAsync(Id, size), cancellationToken);

    /// <summary>Asked once: after a read that has waited its deadline out, another one would not be what the caller was told.</summary>
    private async Task<ExecutionExit> ExitFromIndexAsync(SandboxException? trouble, CancellationToken cancellationToken)
    {
        ExecutionInfo? info = null;
        try
        {
            info = await _session.Caller.OnceAsync(() => _session.Executions.GetExecutionAsync(Id), cancellationToken);
        }
        catch (SandboxException e)
        {
            trouble ??= e;
        }

        return info?.Exit ?? throw trouble ?? new SandboxException(SandboxErrorCode.Internal, $"The output of execution {Id} ended without an exit.");
    }

    private async Task<Whereabouts> LocateAsync(CancellationToken cancellationToken)
    {
        // The session first: what it says of the execution is then at least as new.
        var session = await _session.Caller.OnceAsync(() => _session.Lifecycle.GetAsync(), cancellationToken);
        return Whereabouts.Of(await _session.Caller.OnceAsync(() => _session.Executions.GetExecutionAsync(Id), cancellationToken), session);
    }
}
