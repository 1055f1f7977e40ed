using System.Collections.Concurrent;
using System.Security.Cryptography;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>An interpreter that keeps its variables, and the queue of code before it: one piece at a time, in order.</summary>
internal sealed class LanguageContext
{
    /// <summary>Pieces of code that may wait their turn.</summary>
    private const int MaxQueued = 128;

    /// <summary>A kernel that is not ready by then goes on starting, and the first code waits for it: a request must be answered.</summary>
    private static readonly TimeSpan AnswerWithin = TimeSpan.FromSeconds(15);

    private static readonly Dictionary<string, string> NoEnvironment = [];

    /// <summary>Null stands for "nothing to run, but look whether there is a seed".</summary>
    private readonly BlockingCollection<CodeExecution?> _queue = new(MaxQueued);
    private readonly Dictionary<string, string> _environment;
    private readonly User _user;
    private readonly Lock _lock = new();
    private Interpreter _interpreter;
    private CodeExecution? _current;
    private (string Hex, TaskCompletionSource Applied)? _seed;
    private bool _busy;

    /// <summary>Starts the interpreter and waits until it is ready, or takes over a warm one.</summary>
    public LanguageContext(CreateContext request, Interpreter? warm = null)
    {
        Id = request.ContextId;
        Language = request.Language;
        _user = User.Find(request.User);
        Directory = _user.Resolve(request.Cwd);
        if (request.Cwd.Length == 0 && !global::System.IO.Directory.Exists(Directory))
        {
            Directory = "/";
        }

        _environment = ProcessLauncher.EnvironmentOf(_user, request.Env);
        _interpreter = warm is not null && Settle(warm) ? warm : Fresh();
        try
        {
            Threads.Start(Run, 512 * 1024, "context");
        }
        catch
        {
            _interpreter.Kill();
            throw;
        }
    }

    public string Id { get; }

    public string Language { get; }

    public string Directory { get; }

    public uint Pid => (uint)Volatile.Read(ref _interpreter).Pid;

    public Context Describe() => new() { ContextId = Id, Language = Language, Cwd = Directory, Pid = Pid, Busy = Volatile.Read(ref _busy) };

    public void Enqueue(CodeExecution execution)
    {
        try
        {
            if (!_queue.TryAdd(execution))
            {
                throw new AgentException(ErrorCode.ResourceExhausted, $"{MaxQueued} pieces of code wait for context '{Id}' already.");
            }
        }
        catch (InvalidOperationException)
        {
            throw new AgentException(ErrorCode.Conflict, $"Context '{Id}' has been removed.");
        }
    }

    /// <summary>Puts a fresh interpreter in the place of the old one. What runs in the old one ends with its context lost.</summary>
    public void Restart()
    {
        var fresh = Fresh();
        Interpreter old;
        lock (_lock)
        {
            (old, _interpreter) = (_interpreter, fresh);
        }

        old.Kill();
    }

    /// <summary>Whether a context for this request may take over this one's interpreter.</summary>
    public bool Suits(CreateContext request) =>
        Language == request.Language && (request.User.Length == 0 || request.User == _user.Name) && Volatile.Read(ref _interpreter).Alive;

    /// <summary>Ends this context and gives its interpreter away.</summary>
    public Interpreter GiveAway()
    {
        _queue.CompleteAdding();
        lock (_lock)
        {
            return _interpreter;
        }
    }

    public void Remove()
    {
        _queue.CompleteAdding();
        lock (_lock)
        {
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

            execution.Interpreter!.Signal(number);
            return true;
        }
    }

    /// <summary>Repeats an interrupt that may have been lost, if that piece of code still runs: for Bash only to children that cannot have got it.</summary>
    public void Insist(CodeExecution execution)
    {
        lock (_lock)
        {
            if (_current != execution || execution.Over)
            {
                return;
            }

            if (Language == "bash")
            {
                execution.Interpreter!.InterruptStragglers();
            }
            else
            {
                execution.Interpreter!.Signal(2);
            }
        }
    }

    /// <summary>
    /// Gives the interpreter fresh randomness. An idle one has it when the task completes. A busy one gets it when its present code is over; the task does
    /// not wait for that.
    /// </summary>
    public Task ReseedAsync(string hex)
    {
        var applied = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_lock)
        {
            _seed = (hex, applied);
            if (_busy)
            {
                return Task.CompletedTask;
            }
        }

        try
        {
            return _queue.TryAdd(null) ? applied.Task : Task.CompletedTask;
        }
        catch (InvalidOperationException)
        {
            return Task.CompletedTask;
        }
    }

    /// <summary>Makes a warm interpreter this context's own: its environment, its directory, randomness that no other has.</summary>
    private bool Settle(Interpreter warm)
    {
        var seed = Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(32));
        if (warm.Alive && warm.Exchange("", Directory, _environment, seed, _ => { }, (_, _) => { }) is 0)
        {
            return true;
        }

        warm.Kill();
        return false;
    }

    private Interpreter Fresh()
    {
        var interpreter = new Interpreter(Language, _user, _environment, Directory);
        interpreter.WaitUntilReady(AnswerWithin);
        return interpreter;
    }

    private void Run()
    {
        foreach (var execution in _queue.GetConsumingEnumerable())
        {
            ApplySeed();
            if (execution is null)
            {
                continue;
            }

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

            ApplySeed();
        }
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
                interpreter = new Interpreter(Language, _user, _environment, Directory);
                lock (_lock)
                {
                    _interpreter = interpreter;
                }
            }

            interpreter.WaitUntilReady(Interpreter.StartDeadline);
        }
        catch (AgentException e)
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
    }

    private void ApplySeed()
    {
        (string Hex, TaskCompletionSource Applied)? seed;
        lock (_lock)
        {
            (seed, _seed) = (_seed, null);
        }

        if (seed is { } given)
        {
            if (_interpreter is { Alive: true } interpreter && interpreter.WaitUntilReady(AnswerWithin))
            {
                interpreter.Exchange("", "", NoEnvironment, given.Hex, _ => { }, (_, _) => { });
            }

            given.Applied.TrySetResult();
        }
    }
}
