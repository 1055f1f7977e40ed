using System.Text.Json;
using Google.Protobuf;

namespace Sandbox.Guest.Protocol;

/// <summary>One line that an interpreter's driver wrote to the agent, whatever agent that is. The user's code can write there too, so nothing in it is trusted.</summary>
public abstract record KernelReply
{
    private const int MaxMimeTypes = 64;
    private const int MaxMimeLength = 128;
    private const int MaxErrorPart = 48 * 1024;

    /// <summary>The kernel takes code now.</summary>
    public sealed record Ready : KernelReply;

    /// <summary>The piece of code is over, with an exit code of 0 to 255.</summary>
    public sealed record Done(int Code) : KernelReply;

    /// <summary>A value was displayed. <paramref name="LeftOut"/> names the MIME types that did not fit.</summary>
    public sealed record Shown(RichResult Result, IReadOnlyList<string> LeftOut) : KernelReply;

    /// <summary>The code raised an error.</summary>
    public sealed record Failed(CodeError Error) : KernelReply;

    /// <summary>Reads a line, or returns null if it is not what a kernel writes.</summary>
    public static KernelReply? Parse(ReadOnlyMemory<byte> line)
    {
        try
        {
            using var document = JsonDocument.Parse(line);
            var root = document.RootElement;
            return root.GetProperty("type").GetString() switch
            {
                "ready" => new Ready(),
                "done" => new Done(root.GetProperty("code").GetInt32() & 0xff),
                "result" => ParseResult(root),
                "error" => new Failed(new CodeError
                {
                    Name = Text(root, "name", 1024),
                    Value = Text(root, "value", MaxErrorPart),
                    Traceback = Text(root, "traceback", MaxErrorPart),
                }),
                _ => null,
            };
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or KeyNotFoundException)
        {
            return null;
        }
    }

    private static Shown ParseResult(JsonElement root)
    {
        var result = new RichResult
        {
            IsMain = root.TryGetProperty("main", out var main) && main.ValueKind == JsonValueKind.True,
            ExecutionCount = root.TryGetProperty("count", out var count) && count.TryGetUInt32(out var n) ? n : 0,
        };
        var leftOut = new List<string>();
        var size = 0;
        foreach (var part in root.GetProperty("data").EnumerateObject())
        {
            // A host takes a result whose types are no types for an attack.
            if (part.Name.Length is 0 or > MaxMimeLength || !part.Name.All(c => c is > ' ' and < '\x7f') || !part.Value.TryGetBytesFromBase64(out var bytes))
            {
                continue;
            }

            if (result.Data.Count == MaxMimeTypes || size + part.Name.Length + bytes.Length > ProtocolLimits.MaxResultBytes)
            {
                leftOut.Add(part.Name);
                continue;
            }

            size += part.Name.Length + bytes.Length;
            result.Data[part.Name] = ByteString.CopyFrom(bytes);
        }

        return new Shown(result, leftOut);
    }

    private static string Text(JsonElement root, string name, int most)
    {
        if (!root.TryGetProperty(name, out var value) || value.ValueKind != JsonValueKind.String)
        {
            return "";
        }

        var text = value.GetString()!;

        // The end of a traceback says more than its beginning.
        return text.Length <= most ? text : "…" + text[^(char.IsLowSurrogate(text[^most]) ? most - 1 : most)..];
    }
}
