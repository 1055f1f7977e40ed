using System.Text;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Machine;
using Sandbox.Wasm.Worker.Running;
using Sandbox.Wasm.Worker.Wasi;

namespace Sandbox.Wasm.Worker.Languages;

/// <summary>JavaScript of a context. Its guest runs on the thread of whoever evaluates.</summary>
internal sealed class JavaScriptInterpreter : Interpreter
{
    private const int MaxErrorPart = 48 * 1024;

    private readonly Run _run;
    private JavaScriptGuest? _guest;
    private GuestEnd? _end;
    private CodeSink? _sink;
    private uint _count;

    /// <summary>Starts it, in nobody's machine: see <see cref="JavaScriptPool"/>.</summary>
    public JavaScriptInterpreter(Wasmtime.Module module, Turns turns, Allowance allowance)
    {
        _run = new Run(turns, allowance);
        _run.AtTick = () => _sink?.Output.Flush(_run);
        try
        {
            _run.Do(() => _guest = new JavaScriptGuest(module, _run, allowance.MemoryBytes, NoInput.Instance) { Output = (fd, data) => _sink?.Output.Write(_run, fd, data) });
        }
        catch (Exception e)
        {
            _run.Dispose();
            throw e is Wasmtime.WasmtimeException or GuestEndedException ? new WorkerException(ErrorCode.ResourceExhausted, $"JavaScript does not start: {e.Message.Split('\n')[0]}") : e;
        }
    }

    /// <summary>Makes it a machine's own. Only before its first code.</summary>
    public void Adopt(WasmMachine machine, IReadOnlyDictionary<string, string> environment, string directory)
    {
        _run.Move(machine.Turns, machine.Allowance);
        try
        {
            _run.Do(() => _guest!.Adopt(machine, environment, directory, ["js"]));
        }
        catch (Exception e) when (e is Wasmtime.WasmtimeException or GuestEndedException)
        {
            throw new WorkerException(ErrorCode.ResourceExhausted, $"JavaScript does not start: {e.Message.Split('\n')[0]}");
        }
    }

    public override Run Run => _run;

    public override bool Alive => _end is null && _run.Killed == 0;

    public override GuestEnd End => _end ?? new GuestEnd(0, _run.Killed, null);

    public override bool CanBeInterrupted => true;

    public override int? Evaluate(CodeRequest request, CodeSink sink)
    {
        _sink = sink;
        var code = 0;
        try
        {
            _run.Do(() =>
            {
                code = EvaluateInTurn(_guest!, request, sink);
                sink.Output.Flush(_run);
            });
            return code;
        }
        catch (Exception e) when (e is Wasmtime.WasmtimeException or GuestEndedException)
        {
            _end = GuestEnd.Of(_run, _guest!.Process, e);
            Dispose();
            return null;
        }
        finally
        {
            _sink = null;
        }
    }

    public override void Dispose()
    {
        _run.Kill(9);
        _run.Memory = () => 0;
        Interlocked.Exchange(ref _guest, null)?.Dispose();
        _run.Dispose();
    }

    private int EvaluateInTurn(JavaScriptGuest guest, CodeRequest request, CodeSink sink)
    {
        if (request.Directory.Length > 0)
        {
            guest.ChangeDirectory(request.Directory);
        }

        var before = request.Environment.Count > 0 ? guest.SetEnvironment(request.Environment.ToDictionary(e => e.Key, e => (string?)e.Value)) : null;
        _count++;
        var (value, failed) = guest.Evaluate(TopLevel.AsVariables(request.Source), $"<cell {_count}>");
        var interrupted = _run.Interrupted;
        _run.ClearInterrupt();
        if (before is not null)
        {
            guest.SetEnvironment(before);
        }

        if (failed)
        {
            var error = guest.Describe(value);
            var shown = interrupted
                ? new CodeError { Name = "InterruptError", Value = "the code was interrupted", Traceback = Clip(error.Traceback) }
                : new CodeError { Name = error.Name.Length > 200 ? error.Name[..200] : error.Name, Value = Clip(error.Value), Traceback = Clip(error.Traceback) };
            sink.Fail(_run, shown);
            return interrupted ? 130 : 1;
        }

        if (guest.Show(value) is { } text)
        {
            Show(text, sink);
        }

        return 0;
    }

    private void Show(string text, CodeSink sink)
    {
        var bytes = Encoding.UTF8.GetBytes(text);
        var shown = new RichResult { IsMain = true, ExecutionCount = _count };
        var fits = bytes.Length < ProtocolLimits.MaxResultBytes - 100;
        if (fits)
        {
            shown.Data["text/plain"] = ByteString.CopyFrom(bytes);
        }

        sink.Show(_run, new KernelReply.Shown(shown, fits ? [] : ["text/plain"]));
    }

    private static string Clip(string text) => text.Length <= MaxErrorPart ? text : "…" + text[^MaxErrorPart..];
}
