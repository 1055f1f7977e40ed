using System.Text;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Volume;
using Wasmtime;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>
/// QuickJS, as the package quickjs-wasi builds it: its functions, called from here. A value is a number that the engine gives out and takes back. On the guest's thread and in its turn; every call may
/// trap, and whoever calls lets that pass.
/// </summary>
internal sealed class JavaScriptEngine
{
    /// <summary>Top-level await; the evaluation is a promise then.</summary>
    private const int Async = 1 << 7;

    /// <summary>Longest text that is copied into this process, in bytes.</summary>
    private const int MaxText = 1 << 20;

    private const int Piece = 1 << 20;

    private readonly Memory _memory;
    private readonly Func<int, int> _allocate;
    private readonly Action<int> _free;
    private readonly Func<int, int, int, int, int> _evaluate;
    private readonly Func<int, int> _isException;
    private readonly Func<int> _exception;
    private readonly Func<int, int, int, int, int> _call;
    private readonly Func<int, int, int> _stringOf;
    private readonly Action<int> _freeString;
    private readonly Action<int> _freeValue;
    private readonly Func<int, int, int> _newString;
    private readonly Func<int, int, int> _newBuffer;
    private readonly Func<int, int, int> _bufferOf;
    private readonly Func<int> _undefined;
    private readonly Func<int> _jobPending;
    private readonly Func<int> _runJob;
    private readonly Func<int, int> _promiseState;
    private readonly Func<int, int> _promiseResult;
    private readonly Func<int, int> _isString;
    private readonly Func<int, int> _isBuffer;
    private readonly Func<int, int> _isUndefined;
    private readonly Func<int, int> _isPromise;
    private readonly Func<int> _newError;
    private readonly Func<int, int, int, int> _setProperty;
    private readonly Func<int, int> _throw;
    private readonly Func<int, int, int, int> _newFunction;
    private readonly Func<int, int, int> _property;

    public JavaScriptEngine(GuestInstance guest)
    {
        var i = guest.Instance;
        _memory = i.GetMemory("memory")!;
        i.GetAction("_initialize")?.Invoke();
        _allocate = i.GetFunction<int, int>("wasm_malloc")!;
        _free = i.GetAction<int>("wasm_free")!;
        _evaluate = i.GetFunction<int, int, int, int, int>("qjs_eval")!;
        _isException = i.GetFunction<int, int>("qjs_is_exception")!;
        _exception = i.GetFunction<int>("qjs_get_exception")!;
        _call = i.GetFunction<int, int, int, int, int>("qjs_call")!;
        _stringOf = i.GetFunction<int, int, int>("qjs_get_string_len")!;
        _freeString = i.GetAction<int>("qjs_free_cstring")!;
        _freeValue = i.GetAction<int>("qjs_free_value")!;
        _newString = i.GetFunction<int, int, int>("qjs_new_string")!;
        _newBuffer = i.GetFunction<int, int, int>("qjs_new_array_buffer")!;
        _bufferOf = i.GetFunction<int, int, int>("qjs_get_array_buffer")!;
        _undefined = i.GetFunction<int>("qjs_get_undefined")!;
        _jobPending = i.GetFunction<int>("qjs_is_job_pending")!;
        _runJob = i.GetFunction<int>("qjs_execute_pending_job")!;
        _promiseState = i.GetFunction<int, int>("qjs_promise_state")!;
        _promiseResult = i.GetFunction<int, int>("qjs_promise_result")!;
        _isString = i.GetFunction<int, int>("qjs_is_string")!;
        _isBuffer = i.GetFunction<int, int>("qjs_is_array_buffer")!;
        _isUndefined = i.GetFunction<int, int>("qjs_is_undefined")!;
        _isPromise = i.GetFunction<int, int>("qjs_is_promise")!;
        _newError = i.GetFunction<int>("qjs_new_error")!;
        _setProperty = i.GetFunction<int, int, int, int>("qjs_set_prop_string")!;
        _throw = i.GetFunction<int, int>("qjs_throw")!;
        _newFunction = i.GetFunction<int, int, int, int>("qjs_new_host_function")!;
        _property = i.GetFunction<int, int, int>("qjs_get_prop_string")!;
        if (i.GetFunction<int>("qjs_init")!() != 0)
        {
            throw new WasmtimeException("QuickJS does not start: there is not enough memory");
        }

        i.GetAction<int>("qjs_set_interrupt_handler")!(1);
    }

    public delegate void ContentAction(ReadOnlySpan<byte> content);

    /// <summary>Puts bytes from an offset on; says how many.</summary>
    public delegate int FillAction(Span<byte> piece, long offset);

    /// <summary>Whether a promise is still open, kept, or broken.</summary>
    public enum Promise
    {
        Pending = 0,
        Fulfilled = 1,
        Rejected = 2,
    }

    public int Undefined => _undefined();

    public bool HasJobs => _jobPending() != 0;

    /// <summary>Evaluates a script. An exception is a value too: see <see cref="IsException"/>.</summary>
    public int Evaluate(string source, string name, bool awaits)
    {
        var (code, length) = Put(source);
        var (file, _) = Put(name);
        try
        {
            return _evaluate(code, length, file, awaits ? Async : 0);
        }
        finally
        {
            _free(code);
            _free(file);
        }
    }

    public bool IsException(int value) => _isException(value) != 0;

    /// <summary>Takes the exception that is under way.</summary>
    public int TakeException() => _exception();

    public bool IsString(int value) => _isString(value) != 0;

    public bool IsBuffer(int value) => _isBuffer(value) != 0;

    public bool IsUndefined(int value) => _isUndefined(value) != 0;

    public bool IsPromise(int value) => _isPromise(value) != 0;

    public Promise StateOf(int promise) => (Promise)_promiseState(promise);

    public int ResultOf(int promise) => _promiseResult(promise);

    /// <summary>Runs one job of the queue. False: it threw.</summary>
    public bool RunJob() => _runJob() >= 0;

    public int Property(int value, string name)
    {
        var (key, _) = Put(name);
        var found = _property(value, key);
        _free(key);
        return found;
    }

    public void Release(int value) => _freeValue(value);

    public int Call(int function, params ReadOnlySpan<int> arguments)
    {
        var list = _allocate(Math.Max(4, arguments.Length * 4));
        Require(list);
        for (var i = 0; i < arguments.Length; i++)
        {
            _memory.WriteInt32((uint)list + (i * 4), arguments[i]);
        }

        var self = Undefined;
        try
        {
            return _call(function, self, arguments.Length, list);
        }
        finally
        {
            _free(list);
            Release(self);
        }
    }

    public int String(string text)
    {
        var (at, length) = Put(text);
        var value = _newString(at, length);
        _free(at);
        return value;
    }

    public int Buffer(ReadOnlySpan<byte> data)
    {
        var at = _allocate(Math.Max(1, data.Length));
        Require(at);
        data.CopyTo(_memory.GetSpan((uint)at, data.Length));
        var value = _newBuffer(at, data.Length);
        _free(at);
        return value;
    }

    /// <summary>Text of a value, converted if need be.</summary>
    /// <exception cref="VolumeException">It is longer than this process wants to hold.</exception>
    public string Text(int value) => Encoding.UTF8.GetString(TextBytes(value));

    public byte[] TextBytes(int value)
    {
        byte[]? bytes = null;
        return WithContent(value, span => bytes = span.Length <= MaxText ? span.ToArray() : null) ? bytes ?? throw new VolumeException(Errno.TooBig) : [];
    }

    /// <summary>Shows the bytes of a text or of an ArrayBuffer, where they are: they may be as large as the guest. Not to be kept, and the guest must not run meanwhile.</summary>
    public bool WithContent(int value, ContentAction use)
    {
        var text = !IsBuffer(value);
        var length = _allocate(4);
        Require(length);
        try
        {
            var at = text ? _stringOf(value, length) : _bufferOf(value, length);
            if (at == 0)
            {
                return false;
            }

            use(_memory.GetSpan((uint)at, _memory.ReadInt32((uint)length)));
            if (text)
            {
                _freeString(at);
            }

            return true;
        }
        finally
        {
            _free(length);
        }
    }

    /// <summary>Makes a text or an ArrayBuffer whose bytes are put where they belong, piece by piece.</summary>
    public int Filled(long length, bool text, FillAction fill)
    {
        var at = length < int.MaxValue ? _allocate(Math.Max(1, (int)length)) : 0;
        Require(at);
        try
        {
            var done = 0;
            for (int n; done < length && (n = fill(_memory.GetSpan((uint)at + done, (int)Math.Min(length - done, Piece)), done)) > 0; done += n)
            {
            }

            return text ? _newString(at, done) : _newBuffer(at, done);
        }
        finally
        {
            _free(at);
        }
    }

    public int HostFunction(string name)
    {
        var (at, length) = Put(name);
        var value = _newFunction(at, length, 0);
        _free(at);
        return value;
    }

    /// <summary>Makes an error and throws it; the host's function that does so answers 0.</summary>
    public int Throw(string message, string code)
    {
        var error = _newError();
        foreach (var (name, text) in ((string, string)[])[("message", message), ("code", code)])
        {
            var value = String(text);
            var (key, _) = Put(name);
            _setProperty(error, key, value);
            _free(key);
            Release(value);
        }

        _throw(error);
        Release(error);
        return 0;
    }

    /// <summary>Numbers in the guest's memory: what a call's arguments are.</summary>
    public int[] Numbers(int address, int count)
    {
        var numbers = new int[Math.Clamp(count, 0, 16)];
        for (var i = 0; i < numbers.Length; i++)
        {
            numbers[i] = _memory.ReadInt32((uint)address + (i * 4));
        }

        return numbers;
    }

    private (int Address, int Length) Put(string text)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        var at = _allocate(bytes.Length + 1);
        Require(at);
        var span = _memory.GetSpan((uint)at, bytes.Length + 1);
        bytes.CopyTo(span);
        span[^1] = 0;
        return (at, bytes.Length);
    }

    private static void Require(int address)
    {
        if (address == 0)
        {
            throw new WasmtimeException("JavaScript has no memory left");
        }
    }
}
