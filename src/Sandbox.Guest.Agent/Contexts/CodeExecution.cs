using System.Diagnostics;
using System.Text;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>A piece of code in a context.</summary>
internal sealed class CodeExecution(ulong stream, StartExecution request, Outbox outbox, LanguageContext context) : Execution(stream, request, outbox)
{
    private readonly CancellationTokenSource _over = new();
    private volatile int _cancelled;
    private volatile bool _timedOut;

    /// <summary>Where it runs, once it does. Guarded by the context's lock.</summary>
    public Interpreter? Interpreter { get; set; }

    public override void Start()
    {
        foreach (var (name, value) in Request.Env)
        {
            if (name.Length == 0 || name.Contains('=') || name.Contains('\0') || value.Contains('\0'))
            {
                throw new AgentException(ErrorCode.InvalidArgument, $"'{name}' is no name of an environment variable, or its value holds a NUL.");
            }
        }

        Pid = context.Pid;
        context.Enqueue(this);
    }

    public override void Signal(int number)
    {
        if (number is > 0 and < 65 && !context.Signal(this, number))
        {
            _cancelled = number;
        }
        else if (number == 2 && context.Language is "javascript" or "bash")
        {
            _ = InsistAsync();
        }
    }

    /// <summary>
    /// An interrupt can be lost: by Node between the end of synchronous code and the wait for its promise, by a child of Bash that has been forked and is not yet the program it will be.
    /// It is repeated a few times.
    /// </summary>
    private async Task InsistAsync()
    {
        try
        {
            for (var round = 0; round < 4; round++)
            {
                await Task.Delay(250, _over.Token).ConfigureAwait(false);
                context.Insist(this);
            }
        }
        catch (OperationCanceledException)
        {
            // It has worked.
        }
    }

    /// <summary>The interpreter is done with it: a signal now would meet the next one's code.</summary>
    public bool Over => _over.IsCancellationRequested;

    /// <summary>The context could not even be started.</summary>
    public void Fail(string message)
    {
        Say(message);
        Events.Add(new ExecutionEvent { Exited = new Exited { ExitCode = 1, ContextLost = true } });
    }

    public void RunIn(Interpreter interpreter, string directory)
    {
        if (_cancelled != 0)
        {
            Events.Add(new ExecutionEvent { Exited = new Exited { Signal = _cancelled } });
            return;
        }

        // Before it runs: nothing it makes is missed.
        using var artifacts = ArtifactWatch.Begin(Request.Artifacts, DirectoryOf(interpreter, directory));
        var clock = Stopwatch.StartNew();
        var cpu = interpreter.CpuMilliseconds;
        if (Request.TimeoutMs > 0)
        {
            _ = InterruptAfterTimeoutAsync(interpreter);
        }

        var code = interpreter.Exchange(Request.Code.Source, Request.Cwd, Request.Env, "", Handle, (fd, data) => Emit(fd, data.Span));
        _over.Cancel();
        var end = code is null ? interpreter.End : default;
        var exited = new Exited
        {
            ExitCode = code ?? end.ExitCode,
            Signal = end.Signal,
            TimedOut = _timedOut,
            OutOfMemory = code is null && interpreter.EndedOutOfMemory,
            PidsLimitHit = interpreter.PidsLimitHit,
            ContextLost = code is null,
            DiskFull = Disk.IsFull(directory),
            WallMs = (ulong)clock.ElapsedMilliseconds,
            CpuMs = interpreter.CpuMilliseconds - Math.Min(cpu, interpreter.CpuMilliseconds),
            PeakMemoryBytes = interpreter.PeakMemory,
        };
        Tell(artifacts);
        Events.Add(new ExecutionEvent { Exited = exited });
    }

    /// <summary>Where the code will run: code before it may have gone elsewhere than the context began.</summary>
    private string DirectoryOf(Interpreter interpreter, string directory)
    {
        try
        {
            directory = new global::System.IO.FileInfo($"/proc/{interpreter.Pid}/cwd").LinkTarget ?? directory;
        }
        catch (IOException)
        {
            // It has ended; the exchange will say so.
        }

        return Path.Combine(directory, Request.Cwd);
    }

    private async Task InterruptAfterTimeoutAsync(Interpreter interpreter)
    {
        try
        {
            await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(Request.TimeoutMs, int.MaxValue)), _over.Token).ConfigureAwait(false);
            _timedOut = true;
            interpreter.Interrupt();
            await Task.Delay(Grace, _over.Token).ConfigureAwait(false);
            interpreter.Kill();
        }
        catch (OperationCanceledException)
        {
            // It ended first.
        }
    }

    private void Handle(KernelReply reply)
    {
        switch (reply)
        {
            case KernelReply.Shown shown:
                foreach (var type in shown.LeftOut)
                {
                    Say($"[sandbox] {type} is left out of a result, which would be over {ProtocolLimits.MaxResultBytes} bytes");
                }

                if (shown.Result.Data.Count > 0)
                {
                    Events.Add(new ExecutionEvent { Result = shown.Result });
                }

                break;
            case KernelReply.Failed failed:
                Events.Add(new ExecutionEvent { CodeError = failed.Error });
                break;
        }
    }

    private void Say(string line) => Emit(OutputFd.Stderr, Encoding.UTF8.GetBytes(line + "\n"));
}
