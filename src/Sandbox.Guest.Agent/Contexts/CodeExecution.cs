using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Sandbox.Guest.Agent.Channel;
using Sandbox.Guest.Agent.Executions;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>A piece of code in a context.</summary>
internal sealed class CodeExecution(ulong stream, StartExecution request, Outbox outbox, LanguageContext context) : Execution(stream, request, outbox)
{
    private const int MaxMimeTypes = 64;

    private readonly CancellationTokenSource _ended = new();
    private volatile int _cancelled;
    private volatile bool _timedOut;
    private volatile bool _failed;

    public override void Start()
    {
        Pid = context.Pid;
        context.Enqueue(this);
    }

    public override void Signal(int number)
    {
        if (number is > 0 and < 65 && !context.Signal(this, number))
        {
            _cancelled = number;
        }
    }

    /// <summary>The context could not even be started.</summary>
    public void Fail(string message)
    {
        Emit(OutputFd.Stderr, Encoding.UTF8.GetBytes(message + "\n"));
        Events.Add(new ExecutionEvent { Exited = new Exited { ExitCode = 1, ContextLost = true } });
    }

    public void RunIn(Interpreter interpreter, string directory)
    {
        if (_cancelled != 0)
        {
            Events.Add(new ExecutionEvent { Exited = new Exited { Signal = _cancelled } });
            return;
        }

        var clock = Stopwatch.StartNew();
        var cpu = interpreter.CpuMilliseconds;
        if (Request.TimeoutMs > 0)
        {
            _ = InterruptAfterTimeoutAsync(interpreter);
        }

        var done = interpreter.Exchange(WriteRequest, Handle, (fd, data) => Emit(fd, data.Span));
        _ended.Cancel();
        var code = done is { } d && d.TryGetProperty("code", out var c) && c.TryGetInt32(out var value) ? value & 0xff : done is null || _failed ? 1 : 0;
        var exited = new Exited
        {
            ExitCode = done is null ? 0 : code,
            Signal = done is null ? 9 : 0,
            TimedOut = _timedOut,
            OutOfMemory = done is null && interpreter.OutOfMemory,
            PidsLimitHit = interpreter.PidsLimitHit,
            ContextLost = done is null,
            DiskFull = Disk.IsFull(directory),
            WallMs = (ulong)clock.ElapsedMilliseconds,
            CpuMs = interpreter.CpuMilliseconds - Math.Min(cpu, interpreter.CpuMilliseconds),
            PeakMemoryBytes = interpreter.PeakMemory,
        };
        Events.Add(new ExecutionEvent { Exited = exited });
    }

    private void WriteRequest(Utf8JsonWriter writer)
    {
        writer.WriteString("code", Request.Code.Source);
        writer.WriteString("cwd", Request.Cwd);
        writer.WriteStartObject("env");
        foreach (var (name, value) in Request.Env)
        {
            writer.WriteString(name, value);
        }

        writer.WriteEndObject();
    }

    private async Task InterruptAfterTimeoutAsync(Interpreter interpreter)
    {
        try
        {
            await Task.Delay(TimeSpan.FromMilliseconds(Math.Min(Request.TimeoutMs, int.MaxValue)), _ended.Token).ConfigureAwait(false);
            _timedOut = true;
            interpreter.Interrupt();
            await Task.Delay(Grace, _ended.Token).ConfigureAwait(false);
            interpreter.Kill();
        }
        catch (OperationCanceledException)
        {
            // It ended first.
        }
    }

    private void Handle(JsonElement reply)
    {
        switch (reply.ValueKind == JsonValueKind.Object && reply.TryGetProperty("type", out var type) ? type.GetString() : null)
        {
            case "result":
                var result = new RichResult
                {
                    IsMain = reply.TryGetProperty("main", out var main) && main.ValueKind == JsonValueKind.True,
                    ExecutionCount = reply.TryGetProperty("count", out var count) && count.TryGetUInt32(out var n) ? n : 0,
                };
                long size = 0;
                foreach (var part in reply.GetProperty("data").EnumerateObject().Take(MaxMimeTypes))
                {
                    if (part.Name.Length <= 128 && part.Value.TryGetBytesFromBase64(out var bytes))
                    {
                        size += bytes.Length + part.Name.Length;
                        if (size > ProtocolLimits.MaxResultBytes)
                        {
                            Emit(OutputFd.Stderr, Encoding.UTF8.GetBytes($"[sandbox] {part.Name} of a result is left out: the result is over {ProtocolLimits.MaxResultBytes} bytes\n"));
                            size -= bytes.Length + part.Name.Length;
                            continue;
                        }

                        result.Data[part.Name] = ByteString.CopyFrom(bytes);
                    }
                }

                Events.Add(new ExecutionEvent { Result = result });
                break;
            case "error":
                _failed = true;
                var error = new CodeError { Name = Text(reply, "name", 1024), Value = Text(reply, "value", 64 * 1024), Traceback = Text(reply, "traceback", 64 * 1024) };
                Events.Add(new ExecutionEvent { CodeError = error });
                break;
        }
    }

    private static string Text(JsonElement reply, string name, int most)
    {
        var text = reply.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";
        return text.Length > most ? text[..most] : text;
    }
}
