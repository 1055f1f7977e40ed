using System.Collections.Concurrent;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>An interpreter that keeps its variables, and the queue of code before it: one piece at a time, in order.</summary>
internal sealed class LanguageContext
{
    private readonly BlockingCollection<CodeExecution> _queue = [];
    private readonly Dictionary<string, string> _environment;
    private readonly User _user;
    private readonly Lock _lock = new();
    private Interpreter _interpreter;
    private volatile CodeExecution? _current;

    public LanguageContext(CreateContext request)
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
        _interpreter = Fresh();
        new Thread(Run, 512 * 1024) { IsBackground = true, Name = "context" }.Start();
    }

    public string Id { get; }

    public string Language { get; }

    public string Directory { get; }

    public uint Pid => (uint)_interpreter.Pid;

    public Context Describe() => new() { ContextId = Id, Language = Language, Cwd = Directory, Pid = Pid, Busy = _current is not null };

    public void Enqueue(CodeExecution execution)
    {
        try
        {
            _queue.Add(execution);
        }
        catch (InvalidOperationException)
        {
            throw new AgentException(ErrorCode.Conflict, $"Context '{Id}' has been removed.");
        }
    }

    public void Restart()
    {
        lock (_lock)
        {
            var old = _interpreter;
            _interpreter = Fresh();
            old.Kill();
        }
    }

    public void Remove()
    {
        _queue.CompleteAdding();
        _interpreter.Kill();
    }

    /// <summary>A signal for one piece of code, if it is the one that runs. Returns false if it still waits its turn.</summary>
    public bool Signal(CodeExecution execution, int number)
    {
        if (_current != execution)
        {
            return false;
        }

        _interpreter.Signal(number);
        return true;
    }

    /// <summary>Gives the interpreter fresh randomness, if it is idle (a busy one is not a fresh clone).</summary>
    public void Reseed(ReadOnlySpan<byte> entropy)
    {
        if (_current is null && _interpreter.Alive)
        {
            var seed = Convert.ToHexString(entropy[..Math.Min(entropy.Length, 32)]);
            _interpreter.Exchange(w => w.WriteString("reseed", seed), _ => { }, (_, _) => { });
        }
    }

    private Interpreter Fresh() => new(Language, _user, _environment, Directory);

    private void Run()
    {
        foreach (var execution in _queue.GetConsumingEnumerable())
        {
            Interpreter interpreter;
            lock (_lock)
            {
                if (!_interpreter.Alive)
                {
                    try
                    {
                        _interpreter = Fresh();
                    }
                    catch (AgentException e)
                    {
                        execution.Fail(e.Message);
                        continue;
                    }
                }

                interpreter = _interpreter;
            }

            _current = execution;
            try
            {
                execution.RunIn(interpreter, Directory);
            }
            finally
            {
                _current = null;
            }
        }
    }
}
