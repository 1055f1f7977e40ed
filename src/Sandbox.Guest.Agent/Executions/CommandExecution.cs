using System.Diagnostics;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>A process of its own, on pipes or on a terminal.</summary>
internal sealed class CommandExecution(ulong stream, StartExecution request, Outbox outbox) : Execution(stream, request, outbox)
{
    /// <summary>How long background children may keep the pipes open after the process itself has ended.</summary>
    private const int DrainMilliseconds = 500;

    private readonly Cgroup _cgroup = Cgroup.Create();
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly CancellationTokenSource _over = new();
    private readonly Lock _lock = new();
    private readonly List<OutputReader> _readers = [];
    private readonly int _ending = Native.EventFd(0, Native.CloseOnExec);
    private Crew? _crew;
    private StdinPump? _stdin;
    private ArtifactWatch? _artifacts;
    private int _pid;
    private int _terminal = -1;
    private string _directory = "/";
    private bool _ended;
    private bool _timedOut;
    private bool _killed;

    public override void Start()
    {
        try
        {
            Launch();
        }
        catch
        {
            _crew?.Dismiss();
            _artifacts?.Dispose();
            _cgroup.Remove();
            Native.Close(_ending);
            throw;
        }

        Pid = (uint)_pid;
        if (Request.TimeoutMs > 0)
        {
            _ = EndAfterTimeoutAsync();
        }
    }

    public override void Answered()
    {
        // Until now it has been waited for by nobody, so that its process id is its own, and its pipes hold what it said.
        foreach (var reader in _readers)
        {
            _crew!.Send(reader.Run);
        }

        _crew!.Send(WaitForEnd);
    }

    public override void Signal(int number)
    {
        lock (_lock)
        {
            // Once it has ended its process id may be another's.
            if (!_ended && number is > 0 and < 65)
            {
                _killed |= number == 9;
                _cgroup.Signal(_pid, number);
            }
        }
    }

    public override void Stdin(StdinData data) => _stdin?.Offer(data);

    public override void Resize(PtySize size)
    {
        lock (_lock)
        {
            if (_terminal >= 0)
            {
                Descriptors.Resize(_terminal, size);
            }
        }
    }

    public override void Reconnected() => _stdin?.Reconnected();

    private void Launch()
    {
        var command = Request.Command;
        if (command.Argv.Count is 0 or > 4096)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "A command has 1 to 4096 arguments.");
        }

        var user = User.Find(Request.User);
        var environment = ProcessLauncher.EnvironmentOf(user, Request.Env);
        _directory = user.Resolve(Request.Cwd);
        if (Request.Cwd.Length == 0 && !Directory.Exists(_directory))
        {
            _directory = "/";
        }

        // One for each output, and one that waits for its end.
        _crew = new Crew(command.Pty is null ? 3 : 2);

        // Before it runs: nothing it makes is missed.
        _artifacts = ArtifactWatch.Begin(Request.Artifacts, _directory);
        if (command.Pty is { } size)
        {
            environment.TryAdd("TERM", "xterm-256color");
            StartOnTerminal(command, size, user, environment);
        }
        else
        {
            StartOnPipes(command, user, environment);
        }
    }

    private void StartOnTerminal(Command command, PtySize size, User user, Dictionary<string, string> environment)
    {
        var (master, slave) = Descriptors.Terminal(size, user);
        try
        {
            _pid = ProcessLauncher.Start(new Launch(command.Argv, environment, _directory, user, [slave, slave, slave], true, _cgroup));
        }
        catch
        {
            Native.Close(master);
            throw;
        }
        finally
        {
            Native.Close(slave);
        }

        // Three users, three descriptors: each closes its own when it is done, and none ever uses a number that has become another's.
        _terminal = Descriptors.Duplicate(master);
        _stdin = new StdinPump(Stream, Descriptors.Duplicate(master), terminal: true, Outbox, Events);
        _readers.Add(new OutputReader(master, _ending, data => Emit(OutputFd.Pty, data)));
    }

    private void StartOnPipes(Command command, User user, Dictionary<string, string> environment)
    {
        var (outRead, outWrite) = Descriptors.Pipe(user);
        var (errRead, errWrite) = Descriptors.Pipe(user);
        var (inRead, inWrite) = command.OpenStdin ? Descriptors.Pipe(user) : (Descriptors.Null(), -1);
        try
        {
            _pid = ProcessLauncher.Start(new Launch(command.Argv, environment, _directory, user, [inRead, outWrite, errWrite], false, _cgroup));
        }
        catch
        {
            Native.Close(outRead);
            Native.Close(errRead);
            if (inWrite >= 0)
            {
                Native.Close(inWrite);
            }

            throw;
        }
        finally
        {
            Native.Close(inRead);
            Native.Close(outWrite);
            Native.Close(errWrite);
        }

        if (inWrite >= 0)
        {
            _stdin = new StdinPump(Stream, inWrite, terminal: false, Outbox, Events);
        }

        _readers.Add(new OutputReader(outRead, _ending, data => Emit(OutputFd.Stdout, data)));
        _readers.Add(new OutputReader(errRead, _ending, data => Emit(OutputFd.Stderr, data)));
    }

    private async Task EndAfterTimeoutAsync()
    {
        try
        {
            await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(Request.TimeoutMs, int.MaxValue)), _over.Token).ConfigureAwait(false);
            lock (_lock)
            {
                if (_ended)
                {
                    return;
                }

                _timedOut = true;
                _cgroup.Signal(_pid, 15);
            }

            await Task.Delay(Grace, _over.Token).ConfigureAwait(false);
            Signal(9);
        }
        catch (OperationCanceledException)
        {
            // It ended first.
        }
    }

    private void WaitForEnd()
    {
        var end = Children.Wait(_pid);
        lock (_lock)
        {
            _ended = true;
            if (_timedOut || _killed)
            {
                // What it left behind is part of what timed out.
                _cgroup.KillAll(_pid);
            }
        }

        _over.Cancel();
        var clock = Stopwatch.StartNew();
        foreach (var reader in _readers)
        {
            reader.Done.Wait((int)Math.Max(0, DrainMilliseconds - clock.ElapsedMilliseconds));
        }

        Descriptors.Write(_ending, [1, 0, 0, 0, 0, 0, 0, 0]);
        foreach (var reader in _readers)
        {
            reader.Done.Wait();
        }

        Native.Close(_ending);
        _stdin?.Stop();
        lock (_lock)
        {
            if (_terminal >= 0)
            {
                Native.Close(_terminal);
                _terminal = -1;
            }
        }

        var exited = new Exited
        {
            ExitCode = end.ExitCode,
            Signal = end.Signal,
            TimedOut = _timedOut,
            OutOfMemory = _cgroup.EndedOutOfMemory(end),
            PidsLimitHit = _cgroup.PidsLimitHit,
            DiskFull = Disk.IsFull(_directory),
            WallMs = (ulong)_clock.ElapsedMilliseconds,
            CpuMs = Math.Max(_cgroup.CpuMilliseconds, (ulong)end.CpuMilliseconds),

            // The kernel counts the agent's memory, which the process began in, as its own; what the cgroup says is without that.
            PeakMemoryBytes = _cgroup.PeakMemory is > 0 and var peak ? peak : Container.Entered ? 0 : (ulong)end.PeakBytes,
        };
        Tell(_artifacts);
        Events.Add(new ExecutionEvent { Exited = exited });

        // Nobody waits for these.
        _cgroup.Remove();
        Cgroup.Prepare();
    }
}
