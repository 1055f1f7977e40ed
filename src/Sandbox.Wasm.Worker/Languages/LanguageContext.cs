using System.Collections.Concurrent;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Executions;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Running;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>An interpreter that keeps its variables, and the queue of code before it: one piece at a time, in order.</summary>
internal sealed class LanguageContext : IDisposable
{
    /// <summary>Pieces of code that may wait their turn.</summary>
    private const int MaxQueued = 128;

    private readonly BlockingCollection<CodeExecution> _queue = new(MaxQueued);
    private readonly WasmMachine _machine;
    private readonly Dictionary<string, string> _environment;
    private readonly Lock _lock = new();
    private Interpreter _interpreter;
    private CodeExecution? _current;
    private bool _busy;

    /// <summary>Starts the interpreter.</summary>
    public LanguageContext(CreateContext request, WasmMachine machine)
    {
        (Id, Language, _machine, Pid) = (request.ContextId, request.Language, machine, machine.NextPid());
        WasmMachine.RequireUser(request.User);
        Directory = machine.DirectoryFor(request.Cwd);
        _environment = machine.EnvironmentWith(request.Env, Directory);
        _interpreter = Fresh();
        new Thread(Run, WasmEngine.ThreadStack) { IsBackground = true, Name = "context" }.Start();
    }

    public string Id { get; }

    public string Language { get; }

    public string Directory { get; }

    public uint Pid { get; }

    public Context Describe() => new() { ContextId = Id, Language = Language, Cwd = Directory, Pid = Pid, Busy = Volatile.Read(ref _busy) };

    public void Enqueue(CodeExecution execution)
    {
        try
        {
            if (!_queue.TryAdd(execution))
            {
                throw new WorkerException(ErrorCode.ResourceExhausted, $"{MaxQueued} pieces of code wait for context '{Id}' already.");
            }
        }
        catch (InvalidOperationException)
        {
            throw new WorkerException(ErrorCode.Conflict, $"Context '{Id}' has been removed.");
        }
    }

    /// <summary>Puts a fresh interpreter in the place of the old one. What runs in the old one ends with its context lost.</summary>
    public void Restart()
    {
        var fresh = Fresh();
        Interpreter old;
        bool running;
        lock (_lock)
        {
            (old, _interpreter) = (_interpreter, fresh);
            running = _current is not null;
        }

        old.Kill();
        if (!running)
        {
            old.Dispose();
        }
    }

    /// <summary>Ends it.</summary>
    public void Dispose()
    {
        _queue.CompleteAdding();
        lock (_lock)
        {
            // Whoever runs it lets go of it: see Run.
            _interpreter.Kill();
        }
    }

    /// <summary>A signal for one piece of code, if it is the one that runs. Returns false if it still waits its turn.</summary>
    public bool Signal(CodeExecution execution, int number)
    {
        lock (_lock)
        {
            if (_current != execution)
            {
                return false;
            }

            if (number == 2)
            {
                execution.Interpreter!.Interrupt();
            }
            else
            {
                execution.Interpreter!.Run.Kill(number);
            }

            return true;
        }
    }

    private Interpreter Fresh()
    {
        try
        {
            return Language switch
            {
                "javascript" => _machine.JavaScripts.Take(_machine, _environment, Directory),
                "python" => _machine.Pythons.Take(_machine, _environment, Directory),
                _ => throw new WorkerException(ErrorCode.Unsupported, $"There is no language '{(Language.Length > 40 ? Language[..40] : Language)}' here: this session is WebAssembly and has javascript and python."),
            };
        }
        catch (Modules.ModuleException e)
        {
            throw new WorkerException(ErrorCode.Unsupported, $"The {Language} of this image cannot be used: {e.Message}");
        }
    }

    private void Run()
    {
        foreach (var execution in _queue.GetConsumingEnumerable())
        {
            Volatile.Write(ref _busy, true);
            try
            {
                RunOne(execution);
            }
            catch (Exception e)
            {
                // A bug of ours; the execution must end all the same.
                execution.Fail($"{e.GetType().Name}: {e.Message}");
            }
            finally
            {
                lock (_lock)
                {
                    _current = null;
                    _busy = false;
                }
            }
        }

        _interpreter.Dispose();
    }

    private void RunOne(CodeExecution execution)
    {
        Interpreter interpreter;
        try
        {
            lock (_lock)
            {
                interpreter = _interpreter;
            }

            if (!interpreter.Alive)
            {
                interpreter.Dispose();
                interpreter = Fresh();
                lock (_lock)
                {
                    _interpreter = interpreter;
                }
            }
        }
        catch (WorkerException e)
        {
            execution.Fail(e.Message);
            return;
        }

        lock (_lock)
        {
            execution.Interpreter = interpreter;
            _current = execution;
        }

        execution.RunIn(interpreter, Directory);
        lock (_lock)
        {
            if (!ReferenceEquals(interpreter, _interpreter))
            {
                // A restart has put another in its place.
                interpreter.Dispose();
            }
        }
    }
}
