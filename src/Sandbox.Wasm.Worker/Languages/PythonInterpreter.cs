using System.Collections.Concurrent;
using System.Text;
using System.Text.Json;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;
using Sandbox.Wasm.Worker.Wasi;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>
/// CPython that runs a small loop of ours (driver.py) on a thread of its own, and talks to us over a descriptor. It can be started before anybody needs it, in nobody's machine, and be given to one:
/// it waits for its first request then, and has nothing in it that another has.
/// </summary>
internal sealed class PythonInterpreter : Interpreter, IGuestInput, IGuestOutput
{
    /// <summary>Longest line of an answer: a result of the largest size in base64, with its frame.</summary>
    private const int MaxLine = 2 << 20;

    /// <summary>Name of the channel in the scripts' directory.</summary>
    private const string Channel = "channel";

    private static readonly SessionVolume Nowhere = SessionVolume.Fixed();

    private readonly BlockingCollection<byte[]> _requests = [];
    private readonly BlockingCollection<int> _done = [];
    private readonly ManualResetEventSlim _ready = new(false);
    private readonly CancellationTokenSource _gone = new();
    private readonly MemoryStream _line = new();
    private readonly StringBuilder _complaints = new();
    private readonly WasiProcess _process;
    private readonly DirectoryDescriptor _root;
    private readonly Run _run;
    private ReadOnlyMemory<byte> _request;
    private volatile CodeSink? _sink;
    private Action? _onNextRequest;
    private Action<long>? _limit;
    private GuestEnd? _end;

    /// <summary>Starts it.</summary>
    public PythonInterpreter(Module module, Turns turns, Allowance allowance)
    {
        _run = new Run(turns, allowance) { AtTick = () => _sink?.Output.Flush(_run!) };
        _process = new WasiProcess(_run, ["python3", "-u", Scripts.Directory + "/driver.py", $"{Scripts.Directory}/{Channel}"], PythonProgram.Environment(new Dictionary<string, string>()))
        {
            // By its name: this Python has a file system inside it that takes numbers of descriptors for its own.
            Special = (volume, path) => ReferenceEquals(volume, Scripts.Volume) && path == Channel ? new ChannelDescriptor(this, this) : null,
        };
        _process.Add(new InputDescriptor(NoInput.Instance));
        _process.Add(new OutputDescriptor(new Stream(this, OutputFd.Stdout)));
        _process.Add(new OutputDescriptor(new Stream(this, OutputFd.Stderr)));
        _process.Add(_root = new DirectoryDescriptor(Nowhere, Nowhere.Root, "/"));
        _process.Add(new DirectoryDescriptor(Scripts.Volume, Scripts.Volume.Root, Scripts.Directory));
        new Thread(() => RunToEnd(module, allowance.MemoryBytes), WasmEngine.ThreadStack) { IsBackground = true, Name = "python" }.Start();
    }

    public override Run Run => _run;

    public override bool Alive => !_gone.IsCancellationRequested;

    public override GuestEnd End => _end ?? new GuestEnd(1, 0, null);

    public override bool CanBeInterrupted => false;

    bool IGuestInput.Ready => !_request.IsEmpty || _requests.Count > 0;

    /// <summary>Waits until it takes requests.</summary>
    /// <exception cref="WorkerException">It does not start; says what it complained of.</exception>
    public void WaitUntilReady()
    {
        try
        {
            _ready.Wait(_gone.Token);
        }
        catch (OperationCanceledException)
        {
            lock (_complaints)
            {
                throw new WorkerException(ErrorCode.Unsupported, $"Python does not start: {(End.Trap ?? "it ended")}. {_complaints}".Trim());
            }
        }
    }

    /// <summary>Makes it a machine's own: its files, its share of the processor and of memory. Only before its first code.</summary>
    public void Adopt(WasmMachine machine, IReadOnlyDictionary<string, string> environment, string directory)
    {
        _run.Move(machine.Turns, machine.Allowance);
        _root.Become(machine.Volume, machine.Volume.Root);
        _onNextRequest = () => _limit?.Invoke(machine.Allowance.MemoryBytes);
        Exchange(JsonSerializer.SerializeToUtf8Bytes(new PythonRequest { Adopt = true, Cwd = directory, Env = new(environment) }, PythonJson.Default.PythonRequest));
    }

    public override int? Evaluate(CodeRequest request, CodeSink sink)
    {
        _sink = sink;
        try
        {
            return Exchange(JsonSerializer.SerializeToUtf8Bytes(
                new PythonRequest { Code = request.Source, Cwd = request.Directory, Env = new(request.Environment) }, PythonJson.Default.PythonRequest));
        }
        finally
        {
            _sink = null;
        }
    }

    public override void Dispose()
    {
        Run.Kill(9);
        _requests.CompleteAdding();
    }

    int IGuestInput.Read(Run run, Span<byte> data)
    {
        if (_request.IsEmpty)
        {
            byte[]? next = null;
            while (next is null)
            {
                run.Wait(t => next = _requests.Take(t));
            }

            _request = next;
            Interlocked.Exchange(ref _onNextRequest, null)?.Invoke();
        }

        var n = Math.Min(data.Length, _request.Length);
        _request.Span[..n].CopyTo(data);
        _request = _request[n..];
        return n;
    }

    void IGuestInput.WaitUntilReady(TimeSpan most, CancellationToken cancellationToken)
    {
        // Nobody polls the channel but user code that plays with it.
    }

    void IGuestOutput.Write(Run run, ReadOnlySpan<byte> data)
    {
        while (data.IndexOf((byte)'\n') is >= 0 and var end)
        {
            _line.Write(data[..end]);
            Take(run, KernelReply.Parse(_line.GetBuffer().AsMemory(0, (int)_line.Length)));
            _line.SetLength(0);
            data = data[(end + 1)..];
        }

        if (_line.Length + data.Length > MaxLine)
        {
            throw new WasiException(WasiErrno.TooBig);
        }

        _line.Write(data);
    }

    void IGuestOutput.Flush(Run run)
    {
    }

    private int? Exchange(byte[] request)
    {
        try
        {
            while (_done.TryTake(out _))
            {
                // What user code wrote to the channel by itself.
            }

            _requests.Add([.. request, (byte)'\n']);
            return _done.Take(_gone.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or InvalidOperationException)
        {
            return null;
        }
    }

    private void Take(Run run, KernelReply? reply)
    {
        switch (reply)
        {
            case KernelReply.Ready:
                _ready.Set();
                break;
            case KernelReply.Shown shown:
                _sink?.Show(run, shown);
                break;
            case KernelReply.Failed failed:
                _sink?.Fail(run, failed.Error);
                break;
            case KernelReply.Done done:
                _sink?.Output.Flush(run);
                _done.Add(done.Code);
                break;
        }
    }

    private void RunToEnd(Module module, long memoryBytes)
    {
        Exception? failure = null;
        try
        {
            _run.Do(() =>
            {
                using var guest = new GuestInstance(module, WasiLinker.Instance, _process, _run, memoryBytes);
                _limit = guest.Limit;
                guest.Instance.GetAction("_start")!();
            });
        }
        catch (Exception e)
        {
            // The guest's end, or a bug of ours: the context is lost either way, and says so.
            failure = e;
        }

        _end = GuestEnd.Of(_run, _process, failure);
        _run.Memory = () => 0;
        try
        {
            _process.Dispose();
        }
        finally
        {
            _gone.Cancel();
            _run.Dispose();
        }
    }

    /// <summary>One of the two standard streams: the code's that runs, or nobody's.</summary>
    private sealed class Stream(PythonInterpreter python, OutputFd fd) : IGuestOutput
    {
        public void Write(Run run, ReadOnlySpan<byte> data)
        {
            if (python._sink is { } sink)
            {
                sink.Output.Write(run, fd, data);
            }
            else if (!python._ready.IsSet)
            {
                lock (python._complaints)
                {
                    python._complaints.Append(Encoding.UTF8.GetString(data[..Math.Min(data.Length, 2000)]));
                    python._complaints.Length = Math.Min(python._complaints.Length, 2000);
                }
            }
        }

        public void Flush(Run run) => python._sink?.Output.Flush(run);
    }
}
