using System.Text;
using System.Text.Json;

namespace Sandbox.Guest.Agent.Contexts;

/// <summary>What is asked of a kernel: code to run, or a seed for its random numbers.</summary>
internal sealed record KernelRequest(string Marker, string Code, string Cwd, IReadOnlyDictionary<string, string> Environment, string Seed);

/// <summary>How each language's kernel is started and spoken to. The scripts lie beside the agent.</summary>
internal static class Kernels
{
    private static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "kernels");

    public static string[] CommandOf(string language) => language switch
    {
        "python" => ["python3", Path.Combine(Folder, "python_kernel.py")],
        "javascript" => ["node", Path.Combine(Folder, "javascript_kernel.js")],

        // Interactive, because only an interactive shell can be interrupted without ending; it reads its commands from descriptor 0.
        "bash" => ["bash", "--noprofile", "--noediting", "--rcfile", Path.Combine(Folder, "bash_kernel.sh"), "-i"],
        _ => throw new AgentException(Protocol.ErrorCode.InvalidArgument, $"There is no language '{language}'; there are python, javascript and bash."),
    };

    /// <summary>Whether the kernel reads requests on its standard input (and not on descriptor 3).</summary>
    public static bool ReadsStandardInput(string language) => language == "bash";

    /// <summary>The request as one line.</summary>
    public static byte[] Encode(string language, KernelRequest request) => language == "bash" ? EncodeForBash(request) : EncodeAsJson(request);

    private static byte[] EncodeAsJson(KernelRequest request)
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            writer.WriteString("marker", request.Marker);
            writer.WriteString("code", request.Code);
            writer.WriteString("cwd", request.Cwd);
            writer.WriteString("seed", request.Seed);
            writer.WriteStartObject("env");
            foreach (var (name, value) in request.Environment)
            {
                writer.WriteString(name, value);
            }

            writer.WriteEndObject();
            writer.WriteEndObject();
        }

        buffer.WriteByte((byte)'\n');
        return buffer.ToArray();
    }

    /// <summary>A line of shell. The code is evaluated without the kernel's own descriptors, so that no child of it can hold or write them.</summary>
    private static byte[] EncodeForBash(KernelRequest request)
    {
        var line = new StringBuilder("__sbx_begin ").Append(request.Marker).Append("; ");
        if (request.Seed.Length > 0)
        {
            // $RANDOM is 15 bits from a 32-bit seed; $SRANDOM comes from the kernel.
            line.Append("RANDOM=$((16#").Append(request.Seed.AsSpan(0, 7)).Append(")); __sbx_done 0\n");
            return Encoding.UTF8.GetBytes(line.ToString());
        }

        if (request.Cwd.Length > 0)
        {
            line.Append("builtin cd -- ").Append(Quote(request.Cwd)).Append(" && ");
        }

        foreach (var (name, value) in request.Environment)
        {
            if (name.All(c => char.IsAsciiLetterOrDigit(c) || c == '_') && !char.IsAsciiDigit(name[0]))
            {
                line.Append(name).Append('=').Append(Quote(value)).Append(' ');
            }
        }

        line.Append("builtin eval ").Append(Quote(request.Code)).Append(" </dev/null 4>&- 198>&- 199>&-; __sbx_done $?\n");
        return Encoding.UTF8.GetBytes(line.ToString());
    }

    private static string Quote(string text)
    {
        var quoted = new StringBuilder("$'");
        foreach (var c in text)
        {
            _ = c switch
            {
                '\\' => quoted.Append(@"\\"),
                '\'' => quoted.Append(@"\'"),
                '\n' => quoted.Append(@"\n"),
                '\r' => quoted.Append(@"\r"),
                '\0' => quoted,
                _ => quoted.Append(c),
            };
        }

        return quoted.Append('\'').ToString();
    }
}
