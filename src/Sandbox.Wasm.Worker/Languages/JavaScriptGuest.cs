using System.Text.Json;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;
using Sandbox.Wasm.Worker.Wasi;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>JavaScript in one guest: the engine, what is around the language, and the loop of its events. On one thread at a time.</summary>
internal sealed class JavaScriptGuest : IHasProcess, IDisposable
{
    public const string ModuleName = "quickjs";

    /// <summary>Stands for a text that is longer than any result may be.</summary>
    public static readonly string TooLong = new(' ', Sandbox.Guest.Protocol.ProtocolLimits.MaxResultBytes + 1);

    private const string HostName = "sandbox";

    private static readonly Lazy<Linker> Linker = new(MakeLinker);

    private readonly GuestInstance _guest;
    private readonly JavaScriptHost _host;
    private readonly JavaScriptEngine _engine = null!;
    private readonly int _hooks;

    /// <summary>Starts it, in the guest's turn. It is nobody's yet.</summary>
    public JavaScriptGuest(Module module, Run run, long memoryBytes, IGuestInput input)
    {
        Process = new WasiProcess(run, [], []);
        _host = new JavaScriptHost(run, Process, input);
        _guest = new GuestInstance(module, Linker.Value, this, run, memoryBytes);
        try
        {
            _engine = new JavaScriptEngine(_guest);
            _host.Engine = _engine;
            var bootstrap = _engine.Evaluate(Scripts.Bootstrap, "<sandbox>", awaits: false);
            _hooks = _engine.Call(bootstrap, _engine.HostFunction(HostName));
            if (_engine.IsException(_hooks))
            {
                throw new WasmtimeException("JavaScript does not start: " + _engine.Text(_engine.TakeException()));
            }
        }
        catch
        {
            _guest.Dispose();
            throw;
        }
    }

    public WasiProcess Process { get; }

    /// <summary>Where standard output goes at the moment.</summary>
    public JavaScriptHost.OutputAction Output { set => _host.Output = value; }

    public string Directory => _host.Directory;

    /// <summary>Makes it a machine's own: its files, its memory, its variables. Before any code, in its turn.</summary>
    public void Adopt(WasmMachine machine, IReadOnlyDictionary<string, string> environment, string directory, IReadOnlyList<string> arguments)
    {
        _guest.Limit(machine.Allowance.MemoryBytes);
        _host.Adopt(machine, directory);
        _ = Hook("adopt", _engine.String(JsonSerializer.Serialize(new JavaScriptInfo(new(environment), [.. arguments]), JavaScriptJson.Default.JavaScriptInfo)));
    }

    /// <summary>Runs a script until its value is there. The value, or the error that it ended with, belongs to the caller.</summary>
    public (int Value, bool Failed) Evaluate(string source, string name)
    {
        var promise = _engine.Evaluate(source, name, awaits: true);
        if (_engine.IsException(promise))
        {
            _engine.Release(promise);
            return (_engine.TakeException(), true);
        }

        while (true)
        {
            if (RunJobs() is { } thrown)
            {
                return (thrown, true);
            }

            switch (_engine.StateOf(promise))
            {
                case JavaScriptEngine.Promise.Fulfilled:
                    var result = _engine.ResultOf(promise);
                    var value = _engine.Property(result, "value");
                    _engine.Release(result);
                    _engine.Release(promise);
                    return (value, false);
                case JavaScriptEngine.Promise.Rejected:
                    var reason = _engine.ResultOf(promise);
                    _engine.Release(promise);
                    return (reason, true);
            }

            // It waits for something: a timer, or nothing that could ever come.
            var (next, failure) = Tick();
            if (failure is { } error)
            {
                return (error, true);
            }

            if (next is null && !_engine.HasJobs)
            {
                return (_engine.String("the code awaits a promise that nothing will ever settle"), true);
            }

            _host.Sleep(next ?? TimeSpan.Zero);
        }
    }

    /// <summary>Goes on until there is neither a job nor a timer. Returns an error that nobody caught.</summary>
    public int? Drain()
    {
        while (true)
        {
            if (RunJobs() is { } thrown)
            {
                return thrown;
            }

            var (next, failure) = Tick();
            if (failure is not null)
            {
                return failure;
            }

            if (next is null && !_engine.HasJobs)
            {
                return null;
            }

            _host.Sleep(next ?? TimeSpan.Zero);
        }
    }

    /// <summary>Text of a value for people, or <see langword="null"/> for undefined.</summary>
    public string? Show(int value)
    {
        var shown = Hook("show", value);
        try
        {
            return shown is { } text && _engine.IsString(text) ? _engine.Text(text) : null;
        }
        catch (VolumeException)
        {
            return TooLong;
        }
    }

    /// <summary>Name, message and traceback of an error.</summary>
    public JavaScriptError Describe(int error)
    {
        if (Hook("error", error) is { } described)
        {
            try
            {
                return JsonSerializer.Deserialize(_engine.TextBytes(described), JavaScriptJson.Default.JavaScriptError)!;
            }
            catch (Exception e) when (e is JsonException or VolumeException)
            {
                // What user code has made of its own errors.
            }
        }

        return new JavaScriptError("Error", "the error cannot be shown", "");
    }

    /// <summary>Sets variables (null: removes), and says what they were.</summary>
    public Dictionary<string, string?> SetEnvironment(Dictionary<string, string?> variables)
    {
        var before = Hook("env", _engine.String(JsonSerializer.Serialize(variables, JavaScriptJson.Default.DictionaryStringString)));
        try
        {
            return before is { } text ? JsonSerializer.Deserialize(_engine.TextBytes(text), JavaScriptJson.Default.DictionaryStringString) ?? [] : [];
        }
        catch (Exception e) when (e is JsonException or VolumeException)
        {
            // User code has put something of its own into JSON, and keeps what it made of its variables.
            return [];
        }
    }

    /// <summary>What <c>process.exitCode</c> says.</summary>
    public int ExitCode() => Hook("code", _engine.Undefined) is { } code && int.TryParse(_engine.Text(code), out var number) ? number & 0xff : 0;

    public void ChangeDirectory(string directory) => _host.ChangeDirectory(directory);

    public void Dispose() => _guest.Dispose();

    private int? RunJobs()
    {
        while (_engine.HasJobs)
        {
            if (!_engine.RunJob())
            {
                return _engine.TakeException();
            }
        }

        return null;
    }

    private (TimeSpan? Next, int? Failure) Tick()
    {
        var answer = _engine.Call(_hooks, _engine.String("tick"));
        if (_engine.IsException(answer))
        {
            return (null, _engine.TakeException());
        }

        return (double.TryParse(_engine.Text(answer), System.Globalization.CultureInfo.InvariantCulture, out var milliseconds) ? TimeSpan.FromMilliseconds(Math.Min(milliseconds, 1e9)) : null, null);
    }

    /// <summary>Calls what the bootstrap gave us. Null: it threw, as user code can make it do.</summary>
    private int? Hook(string operation, int value)
    {
        var answer = _engine.Call(_hooks, _engine.String(operation), value);
        if (!_engine.IsException(answer))
        {
            return answer;
        }

        _engine.Release(_engine.TakeException());
        return null;
    }

    private static Linker MakeLinker()
    {
        var linker = new Linker(WasmEngine.Engine);
        WasiLinker.Define(linker);
        linker.DefineFunction("env", "host_call", (CallerFunc<int, int, int, int, int, int>)((c, _, _, _, count, arguments) => Of(c)._host.Call(count, arguments)));
        linker.DefineFunction("env", "host_interrupt", (CallerFunc<int>)(c => Of(c).Process.Run.Interrupted ? 1 : 0));
        linker.DefineFunction("env", "host_promise_rejection", (CallerAction<int, int, int>)((_, _, _, _) => { }));
        linker.DefineFunction("env", "host_module_normalize", (CallerFunc<int, int, int>)((_, _, _) => 0));
        linker.DefineFunction("env", "host_module_load", (CallerFunc<int, int, int>)((_, _, _) => 0));
        linker.DefineFunction("env", "host_get_timezone_offset", (CallerFunc<int, int, int>)((_, _, _) => 0));
        return linker;

        static JavaScriptGuest Of(Caller caller) => (JavaScriptGuest)caller.GetData()!;
    }
}
