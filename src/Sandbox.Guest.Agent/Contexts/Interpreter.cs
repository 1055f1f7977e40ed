using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>
/// A running language kernel: a process that takes requests, one a line, on descriptor 3 (Bash: 0) and answers in JSON lines on descriptor 4, so that
/// its standard output stays the user's own. See <see cref="MarkedOutput"/> for how the two keep their order.
/// </summary>
internal sealed class Interpreter
{
    /// <summary>How long a kernel may take until it is ready: IPython on an emulated processor that others use too needs many seconds.</summary>
    public static readonly TimeSpan StartDeadline = TimeSpan.FromSeconds(180);

    private readonly string _language;
    private readonly Cgroup _cgroup = Cgroup.Create();
    private readonly int _requests;
    private readonly ReplyReader _replies;
    private readonly MarkedOutput _stdout;
    private readonly MarkedOutput _stderr;
    private readonly StringBuilder _complaints = new();
    private readonly CancellationTokenSource _gone = new();
    private readonly Lock _lock = new();
    private readonly Stopwatch _age = Stopwatch.StartNew();
    private ProcessEnd _end;
    private bool _ready;

    public Interpreter(string language, User user, IReadOnlyDictionary<string, string> environment, string directory)
    {
        _language = language;
        var crew = new Crew(4);
        var (requestRead, requestWrite) = Descriptors.Pipe(user);
        var (replyRead, replyWrite) = Descriptors.Pipe(user);
        var (outRead, outWrite) = Descriptors.Pipe(user);
        var (errRead, errWrite) = Descriptors.Pipe(user);
        var nothing = Descriptors.Null();
        var standardInput = Kernels.ReadsStandardInput(language) ? requestRead : nothing;
        try
        {
            Pid = ProcessLauncher.Start(
                new Launch(Kernels.CommandOf(language), environment, directory, user, [standardInput, outWrite, errWrite, requestRead, replyWrite], false, _cgroup));
        }
        catch
        {
            foreach (var fd in (int[])[requestWrite, replyRead, outRead, errRead])
            {
                Native.Close(fd);
            }

            crew.Dismiss();
            _cgroup.Remove();
            throw;
        }
        finally
        {
            foreach (var fd in (int[])[nothing, outWrite, errWrite, requestRead, replyWrite])
            {
                Native.Close(fd);
            }
        }

        _requests = requestWrite;
        _stdout = new MarkedOutput(outRead, _ => { }, crew);
        _stderr = new MarkedOutput(errRead, Complain, crew);
        _replies = new ReplyReader(replyRead, Kill, crew);
        crew.Send(Reap);
    }

    public int Pid { get; }

    public bool Alive => !_gone.IsCancellationRequested;

    /// <summary>Whether it ended for want of memory; only once it has ended.</summary>
    public bool EndedOutOfMemory => _cgroup.EndedOutOfMemory(End);

    public bool PidsLimitHit => _cgroup.PidsLimitHit;

    /// <summary>Where there is no cgroup to ask, of the kernel itself and those of its children that have ended.</summary>
    public ulong CpuMilliseconds => _cgroup.CpuMilliseconds is > 0 and var counted ? counted : Alive ? Sessions.CpuMilliseconds(Pid) : (ulong)_end.CpuMilliseconds;

    public ulong PeakMemory => _cgroup.PeakMemory;

    /// <summary>How it ended; only once it has.</summary>
    public ProcessEnd End
    {
        get
        {
            _gone.Token.WaitHandle.WaitOne();
            return _end;
        }
    }

    /// <summary>Waits until the kernel takes requests; returns false if it still starts when <paramref name="patience"/> is over. One caller at a time.</summary>
    /// <exception cref="AgentException">It has ended, or is not ready after <see cref="StartDeadline"/>; says what it complained of.</exception>
    public bool WaitUntilReady(TimeSpan patience)
    {
        if (_ready)
        {
            return true;
        }

        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(_gone.Token);
        deadline.CancelAfter(patience);
        if (_replies.Take(deadline.Token) is KernelReply.Ready)
        {
            Direct([], null, null);
            return _ready = true;
        }

        if (Alive && _age.Elapsed < StartDeadline)
        {
            return false;
        }

        Kill();
        _stderr.WaitForEnd(500);
        lock (_complaints)
        {
            throw new AgentException(ErrorCode.Unsupported, $"The {_language} kernel does not start: {(_complaints.Length == 0 ? "it is not ready in time." : _complaints)}");
        }
    }

    public void Interrupt() => Signal(2);

    /// <summary>Interrupts the children that an interrupt would have ended: those that live have not got it.</summary>
    public void InterruptStragglers()
    {
        lock (_lock)
        {
            foreach (var pid in Alive ? _cgroup.Members(Pid).Where(p => p != Pid && Sessions.EndsOnInterrupt(p)) : [])
            {
                _ = Native.Kill(pid, 2);
            }
        }
    }

    public void Kill() => Signal(9);

    public void Signal(int number)
    {
        lock (_lock)
        {
            if (Alive)
            {
                _cgroup.Signal(Pid, number);
            }
        }
    }

    /// <summary>
    /// Sends one request and hands its replies and outputs over until it is done. Returns the exit code, or null if the kernel ended instead. One caller at a time.
    /// </summary>
    public int? Exchange(string code, string cwd, IReadOnlyDictionary<string, string> environment, string seed, Action<KernelReply> reply, Action<OutputFd, ReadOnlyMemory<byte>> output)
    {
        var marker = Guid.NewGuid().ToString("N") + Guid.NewGuid().ToString("N");
        Direct(Encoding.ASCII.GetBytes("\0" + marker + "\0"), d => output(OutputFd.Stdout, d), d => output(OutputFd.Stderr, d));
        try
        {
            Descriptors.Write(_requests, Kernels.Encode(_language, new KernelRequest(marker, code, cwd, environment, seed)));
            while (_replies.Take(_gone.Token) is { } next)
            {
                // Both outputs up to here come first; then the reply; then what was written after it.
                _ = _stdout.WaitForMarker(_gone.Token) && _stderr.WaitForMarker(_gone.Token);
                if (next is KernelReply.Done done)
                {
                    Direct([], null, null);
                    ReleaseBoth();
                    return done.Code;
                }

                reply(next);
                ReleaseBoth();
            }

            _gone.Token.WaitHandle.WaitOne();
            _stdout.WaitForEnd(500);
            _stderr.WaitForEnd(500);
            return null;
        }
        finally
        {
            Direct([], null, null);
        }
    }

    private void ReleaseBoth()
    {
        _stdout.Release();
        _stderr.Release();
    }

    private void Direct(byte[] marker, Action<ReadOnlyMemory<byte>>? stdout, Action<ReadOnlyMemory<byte>>? stderr)
    {
        _stdout.Direct(marker, stdout);
        _stderr.Direct(marker, stderr);
    }

    private void Complain(ReadOnlyMemory<byte> data)
    {
        lock (_complaints)
        {
            if (_complaints.Length < 2048)
            {
                _complaints.Append(Encoding.UTF8.GetString(data.Span[..Math.Min(data.Length, 2048)]));
            }
        }
    }

    private void Reap()
    {
        // Its start takes so long that this does not count.
        Cgroup.Prepare();

        var end = Children.Wait(Pid);
        lock (_lock)
        {
            _end = end;
            _cgroup.KillAll(Pid);
            _gone.Cancel();
        }

        Native.Close(_requests);
        _cgroup.Remove();
    }

    /// <summary>The reply descriptor, line by line. Few lines wait here: a kernel that shows results faster than they are taken blocks.</summary>
    private sealed class ReplyReader
    {
        /// <summary>A result of the largest size in Base64, and its frame. A longer line is not a kernel's.</summary>
        private const int MaxLine = 8 << 20;

        private readonly BlockingCollection<KernelReply> _lines = new(boundedCapacity: 4);
        private readonly int _fd;
        private readonly Action _broken;

        public ReplyReader(int fd, Action broken, Crew crew)
        {
            (_fd, _broken) = (fd, broken);
            crew.Send(Run);
        }

        /// <summary>The next reply; null when there will be none any more.</summary>
        public KernelReply? Take(CancellationToken given)
        {
            try
            {
                return _lines.TryTake(out var reply, Timeout.Infinite, given) ? reply : null;
            }
            catch (OperationCanceledException)
            {
                // What was said before the end still counts.
                return _lines.TryTake(out var reply, 100, CancellationToken.None) ? reply : null;
            }
        }

        private void Run()
        {
            var buffer = new byte[16 * 1024];
            var length = 0;
            while (true)
            {
                if (length == buffer.Length)
                {
                    if (length >= MaxLine)
                    {
                        break;
                    }

                    Array.Resize(ref buffer, length * 2);
                }

                var n = Descriptors.Read(_fd, buffer.AsSpan(length));
                if (n == 0)
                {
                    break;
                }

                var searched = length;
                length += n;
                var start = 0;
                for (int end; (end = buffer.AsSpan(searched, length - searched).IndexOf((byte)'\n')) >= 0; searched = start)
                {
                    end += searched;
                    if (KernelReply.Parse(buffer.AsMemory(start, end - start)) is { } reply)
                    {
                        _lines.Add(reply);
                    }

                    start = end + 1;
                }

                buffer.AsSpan(start, length - start).CopyTo(buffer);
                length -= start;
                if (length == 0 && buffer.Length > 256 * 1024)
                {
                    buffer = new byte[16 * 1024];
                }
            }

            // Without its reply descriptor a kernel is of no use, whoever closed it or filled it.
            _lines.CompleteAdding();
            _broken();
            Native.Close(_fd);
        }
    }
}
