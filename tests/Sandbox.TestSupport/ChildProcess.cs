using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Sandbox.TestSupport;

/// <summary>Signals that tests send.</summary>
public enum Signal
{
    /// <summary>Stop at once, but tidily (PostgreSQL's immediate shutdown).</summary>
    Quit = 3,

    /// <summary>What a crash looks like.</summary>
    Kill = 9,

    /// <summary>Please stop.</summary>
    Terminate = 15,
}

/// <summary>
/// A child process that cannot outlive this one: the kernel signals it when the thread that started it ends, and that thread does nothing but wait for it.
/// Keeps the last lines of its output, for the message of a failed test.
/// </summary>
public sealed class ChildProcess : IAsyncDisposable
{
    private const int KeptLines = 200;
    private readonly Process _process;
    private readonly ConcurrentQueue<string> _output = new();
    private readonly TaskCompletionSource _started = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource<int> _exited = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CountdownEvent _outputs = new(2);
    private volatile bool _gone;

    private ChildProcess(ProcessStartInfo start) => _process = new Process { StartInfo = start };

    /// <summary>Its process id, which is the program's own: nothing stands in between.</summary>
    public int Id => _process.Id;

    /// <summary>Ends with its exit code.</summary>
    public Task<int> Exited => _exited.Task;

    /// <summary>The last lines it wrote.</summary>
    public string Output => string.Join(Environment.NewLine, _output);

    /// <summary>Called with each line that it writes.</summary>
    public event Action<string>? LineWritten;

    /// <summary>Starts a program.</summary>
    /// <param name="arguments">The program and what it is told.</param>
    /// <param name="user">Whom it runs as, where this process may choose; null: as this process.</param>
    /// <param name="deathSignal">What it gets when this process ends without stopping it.</param>
    /// <param name="onLine">Called with each line that it writes.</param>
    public static async Task<ChildProcess> StartAsync(IEnumerable<string> arguments, string? user = null, Signal deathSignal = Signal.Kill, Action<string>? onLine = null)
    {
        var start = new ProcessStartInfo("setpriv") { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true, WorkingDirectory = "/" };
        foreach (var argument in (string[])["--pdeathsig", deathSignal switch { Signal.Quit => "QUIT", Signal.Kill => "KILL", _ => "TERM" }])
        {
            start.ArgumentList.Add(argument);
        }

        if (user is not null && Environment.IsPrivilegedProcess)
        {
            foreach (var argument in (string[])["--reuid", user, "--regid", user, "--init-groups"])
            {
                start.ArgumentList.Add(argument);
            }
        }

        start.ArgumentList.Add("--");
        foreach (var argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        var child = new ChildProcess(start);
        child.LineWritten += onLine;
        new Thread(child.Run) { IsBackground = true, Name = "owner of a child process" }.Start();
        await child._started.Task;
        return child;
    }

    /// <summary>Runs a program to its end.</summary>
    /// <exception cref="InvalidOperationException">It failed; the message has its output.</exception>
    public static async Task RunAsync(IEnumerable<string> arguments, string? user = null)
    {
        var list = arguments.ToArray();
        await using var child = await StartAsync(list, user);
        if (await child.Exited is not 0 and var code)
        {
            throw new InvalidOperationException($"'{string.Join(' ', list)}' ended with {code}:{Environment.NewLine}{child.Output}");
        }
    }

    /// <summary>Sends a signal; nothing happens if it has ended.</summary>
    public void Send(Signal signal)
    {
        // Until the owning thread has seen it end the process is at most a zombie: its id cannot belong to somebody else.
        if (!_gone)
        {
            _ = Kill(_process.Id, (int)signal);
        }
    }

    /// <summary>Asks it to stop, and kills it if it has not within the grace.</summary>
    public async Task StopAsync(Signal signal, TimeSpan grace)
    {
        Send(signal);
        try
        {
            await Exited.WaitAsync(grace);
        }
        catch (TimeoutException)
        {
            Send(Signal.Kill);
            await Exited;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        Send(Signal.Kill);
        await Exited;
        _process.Dispose();
    }

    private void Run()
    {
        try
        {
            _process.OutputDataReceived += OnLine;
            _process.ErrorDataReceived += OnLine;
            _process.Start();
            _process.StandardInput.Close();
            _process.BeginOutputReadLine();
            _process.BeginErrorReadLine();
        }
        catch (Exception e)
        {
            _started.SetException(e);
            return;
        }

        _started.SetResult();

        // With a limit, it waits for the exit alone; without one, also for grandchildren to close the output.
        _process.WaitForExit(int.MaxValue);
        _gone = true;

        // Its last words are usually why it ended; grandchildren that keep the pipes do not hold this up for long.
        _outputs.Wait(TimeSpan.FromSeconds(2));
        _exited.SetResult(_process.ExitCode);
    }

    private void OnLine(object sender, DataReceivedEventArgs line)
    {
        if (line.Data is null)
        {
            _outputs.Signal();
            return;
        }

        _output.Enqueue(line.Data);
        if (_output.Count > KeptLines)
        {
            _output.TryDequeue(out _);
        }

        LineWritten?.Invoke(line.Data);
    }

    [DllImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static extern int Kill(int processId, int signal);
}
