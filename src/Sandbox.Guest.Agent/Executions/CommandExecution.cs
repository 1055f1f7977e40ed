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
    private readonly ManualResetEventSlim _ended = new();
    private readonly List<Thread> _readers = [];
    private StdinPump? _stdin;
    private int _pid;
    private int _terminal = -1;
    private string _directory = "/";
    private volatile bool _timedOut;
    private volatile bool _draining;

    public override void Start()
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

        try
        {
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
        catch
        {
            _cgroup.Remove();
            throw;
        }

        Pid = (uint)_pid;
        new Thread(WaitForEnd, 128 * 1024) { IsBackground = true, Name = "wait" }.Start();
        if (Request.TimeoutMs > 0)
        {
            _ = EndAfterTimeoutAsync();
        }
    }

    public override void Signal(int number)
    {
        if (!_ended.IsSet && number is > 0 and < 65)
        {
            _cgroup.Signal(_pid, number);
        }
    }

    public override void Stdin(StdinData data) => _stdin?.Offer(data);

    public override void Resize(PtySize size)
    {
        if (_terminal >= 0 && !_ended.IsSet)
        {
            Descriptors.Resize(_terminal, size);
        }
    }

    public override void Reconnected() => _stdin?.RepeatCredit();

    private void StartOnTerminal(Command command, PtySize size, User user, Dictionary<string, string> environment)
    {
        var (master, slave) = Descriptors.Terminal(size);
        try
        {
            _pid = ProcessLauncher.Start(new Launch(command.Argv, environment, _directory, user, [slave, slave, slave], true, _cgroup.Procs));
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

        _terminal = master;
        _stdin = new StdinPump(Stream, master, terminal: true, Outbox, Events);
        Read(master, OutputFd.Pty);
    }

    private void StartOnPipes(Command command, User user, Dictionary<string, string> environment)
    {
        var (outRead, outWrite) = Descriptors.Pipe();
        var (errRead, errWrite) = Descriptors.Pipe();
        var (inRead, inWrite) = command.OpenStdin ? Descriptors.Pipe() : (Descriptors.Null(), -1);
        try
        {
            _pid = ProcessLauncher.Start(new Launch(command.Argv, environment, _directory, user, [inRead, outWrite, errWrite], false, _cgroup.Procs));
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

        Read(outRead, OutputFd.Stdout);
        Read(errRead, OutputFd.Stderr);
    }

    private void Read(int fd, OutputFd kind)
    {
        var thread = new Thread(
            () =>
            {
                var buffer = new byte[32 * 1024];
                while (true)
                {
                    // Once the process has ended, its background children get a moment and no more.
                    if (_draining && !Descriptors.Wait(fd, 0))
                    {
                        break;
                    }

                    if (!_draining && !Descriptors.Wait(fd, 100))
                    {
                        continue;
                    }

                    var n = Descriptors.Read(fd, buffer);
                    if (n == 0)
                    {
                        break;
                    }

                    Emit(kind, buffer.AsSpan(0, n));
                }

                Native.Close(fd);
            },
            192 * 1024) { IsBackground = true, Name = "output" };
        _readers.Add(thread);
        thread.Start();
    }

    private async Task EndAfterTimeoutAsync()
    {
        await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(Request.TimeoutMs, int.MaxValue))).ConfigureAwait(false);
        if (_ended.IsSet)
        {
            return;
        }

        _timedOut = true;
        _cgroup.Signal(_pid, 15);
        await Task.Delay(Grace).ConfigureAwait(false);

        // Also when the main process has ended meanwhile: what it left behind is part of what timed out.
        _cgroup.Signal(_pid, 9);
    }

    private unsafe void WaitForEnd()
    {
        int status;
        while (Native.WaitPid(_pid, &status, 0) < 0 && Native.Errno == Native.Interrupted)
        {
        }

        _ended.Set();
        var clock = Stopwatch.StartNew();
        foreach (var reader in _readers)
        {
            if (!reader.Join((int)Math.Max(1, DrainMilliseconds - clock.ElapsedMilliseconds)))
            {
                _draining = true;
                reader.Join();
            }
        }

        _stdin?.Stop();
        var signal = status & 0x7f;
        var exited = new Exited
        {
            ExitCode = signal == 0 ? (status >> 8) & 0xff : 0,
            Signal = signal,
            TimedOut = _timedOut,
            OutOfMemory = _cgroup.OutOfMemory,
            PidsLimitHit = _cgroup.PidsLimitHit,
            DiskFull = Disk.IsFull(_directory),
            WallMs = (ulong)_clock.ElapsedMilliseconds,
            CpuMs = _cgroup.CpuMilliseconds,
            PeakMemoryBytes = _cgroup.PeakMemory,
        };
        _cgroup.Remove();
        Events.Add(new ExecutionEvent { Exited = exited });
    }
}
