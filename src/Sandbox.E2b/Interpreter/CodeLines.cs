using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Interpreter;

/// <summary>
/// Output of code as E2B's lines of JSON. Everything beyond ASCII is escaped: the JavaScript SDK decodes each piece of the connection by itself, and a character cut in two would be lost.
/// </summary>
internal sealed class CodeLines
{
    private static readonly Dictionary<string, string> Names = new(StringComparer.Ordinal)
    {
        ["text/plain"] = "text",
        ["text/html"] = "html",
        ["text/markdown"] = "markdown",
        ["image/svg+xml"] = "svg",
        ["image/png"] = "png",
        ["image/jpeg"] = "jpeg",
        ["application/pdf"] = "pdf",
        ["text/latex"] = "latex",
        ["application/json"] = "json",
        ["application/javascript"] = "javascript",
        ["application/vnd.sandbox.table+json"] = "data",
        ["application/vnd.sandbox.chart+json"] = "chart",
    };

    private readonly Decoder _stdout = Encoding.UTF8.GetDecoder();
    private readonly Decoder _stderr = Encoding.UTF8.GetDecoder();
    private bool _failed;
    private int _count;

    /// <summary>The code is over, and its last line has been made.</summary>
    public bool Ended { get; private set; }

    /// <summary>A line of a type that no SDK knows, which they pass over. A blank one would not do: they parse each line.</summary>
    public static byte[] KeepAlive() => Line(new JsonObject { ["type"] = "keepalive" });

    /// <summary>The lines of an event.</summary>
    public IEnumerable<byte[]> Of(OutputEvent output) => output.Kind switch
    {
        OutputKind.Stdout => Text("stdout", _stdout, output.Data, output.Time),
        OutputKind.Stderr => Text("stderr", _stderr, output.Data, output.Time),
        OutputKind.Notice => Text("stderr", _stderr, [.. output.Data, (byte)'\n'], output.Time),
        OutputKind.Result => Result(output.ReadResult()),
        OutputKind.CodeError => Error(output.ReadCodeError()),
        OutputKind.Exit => Exit(output.ReadExit(), output.Time),
        _ => [],
    };

    /// <summary>The last lines where the output cannot be followed to its end.</summary>
    public IEnumerable<byte[]> Broken(string why)
    {
        yield return ErrorLine("ExecutionLost", why, "");
        yield return End();
    }

    private static IEnumerable<byte[]> Text(string type, Decoder decoder, byte[] data, DateTimeOffset time, bool last = false)
    {
        var chars = new char[decoder.GetCharCount(data, last)];
        decoder.GetChars(data, chars, last);
        if (chars.Length > 0)
        {
            yield return Line(new JsonObject { ["type"] = type, ["text"] = new string(chars), ["timestamp"] = (time - DateTimeOffset.UnixEpoch).Ticks * 100 });
        }
    }

    private IEnumerable<byte[]> Result(RichResultData result)
    {
        var line = new JsonObject { ["type"] = "result" };
        var extra = new JsonObject();
        foreach (var (type, content) in result.Data)
        {
            if (Names.TryGetValue(type, out var name))
            {
                line[name] = name == "data" ? Columns(content) : name is "json" or "chart" ? Structured(content) : name == "text" ? Unquoted(content) : content;
            }
            else
            {
                extra[type] = content;
            }
        }

        if (extra.Count > 0)
        {
            line["extra"] = extra;
        }

        line["is_main_result"] = result.IsMain;
        yield return Line(line);
        if (result.ExecutionCount > 0 && result.ExecutionCount != _count)
        {
            _count = result.ExecutionCount;
            yield return Line(new JsonObject { ["type"] = "number_of_executions", ["execution_count"] = _count });
        }
    }

    /// <summary>A table is its columns to E2B; that it was cut is in its text.</summary>
    private static JsonNode? Columns(string content) => Structured(content) is JsonObject table && table["columns"] is { } columns ? columns.DeepClone() : null;

    private IEnumerable<byte[]> Error(CodeErrorData error)
    {
        _failed = true;
        yield return ErrorLine(error.Name, error.Value, error.Traceback);
    }

    private IEnumerable<byte[]> Exit(ExecutionExit exit, DateTimeOffset time)
    {
        foreach (var rest in Text("stdout", _stdout, [], time, last: true).Concat(Text("stderr", _stderr, [], time, last: true)))
        {
            yield return rest;
        }

        // An exit code alone is Bash's last command's, and no error of the code. An end that the code did not choose is one.
        if (!_failed && (exit.ContextLost || exit.Reason != ExitReason.Exited))
        {
            yield return ErrorLine(exit.ContextLost ? "ContextLost" : exit.Reason.ToString(), exit.Message, "");
        }

        yield return End();
    }

    private byte[] End()
    {
        Ended = true;
        return Line(new JsonObject { ["type"] = "end_of_execution" });
    }

    private byte[] ErrorLine(string name, string value, string traceback)
    {
        _failed = true;
        return Line(new JsonObject { ["type"] = "error", ["name"] = name, ["value"] = value, ["traceback"] = traceback });
    }

    /// <summary>E2B gives the text of a string's representation without its quotes.</summary>
    private static string Unquoted(string text) => text is ['\'', .., '\''] or ['"', .., '"'] ? text[1..^1] : text;

    private static JsonNode? Structured(string content)
    {
        try
        {
            return JsonNode.Parse(content);
        }
        catch (JsonException)
        {
            // The guest says what it likes; what is no JSON is a text.
            return content;
        }
    }

    private static byte[] Line(JsonObject line) => [.. JsonSerializer.SerializeToUtf8Bytes(line), (byte)'\n'];
}
