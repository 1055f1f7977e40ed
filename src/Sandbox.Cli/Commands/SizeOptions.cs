using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Sandbox.Cli.Terminal;

namespace Sandbox.Cli.Commands;

/// <summary>What a new session is given; shared by `run` and `session create`.</summary>
internal sealed class SizeOptions
{
    private readonly Option<string> _template = new("--template") { Description = "Template", HelpName = "NAME", DefaultValueFactory = _ => "python" };
    private readonly Option<string?> _backend = new("--backend") { Description = "How it is isolated: qemu, firecracker, gvisor, wasm, oci; default: the strongest that works on a host", HelpName = "NAME" };
    private readonly Option<bool> _trusted = new("--trusted") { Description = "The code is yours: allow backends that share the host's kernel (oci)" };
    private readonly Option<int?> _cpus = new("--cpus") { Description = "Virtual CPUs", HelpName = "N" };
    private readonly Option<string?> _memory = new("--memory") { Description = "Memory: 512, 512M, 2G", HelpName = "SIZE" };
    private readonly Option<string?> _disk = new("--disk") { Description = "Writable disk: 512M, 4G", HelpName = "SIZE" };
    private readonly Option<string[]> _devices = new("--device")
    {
        Description = "A device of the host for the session alone: gpu, npu, a PCI vendor (10de), or vendor and device (10de:2684); several with x2 behind it; repeatable",
        HelpName = "KIND[xN]",
        AllowMultipleArgumentsPerToken = false,
    };

    private readonly Option<string[]> _env = new("--env", "-e") { Description = "Environment variable; repeatable", HelpName = "NAME=VALUE", AllowMultipleArgumentsPerToken = false };

    public void AddTo(Command command)
    {
        foreach (var option in (Option[])[_template, _backend, _trusted, _cpus, _memory, _disk, _devices, _env])
        {
            command.Options.Add(option);
        }
    }

    /// <summary>The backend that was asked for.</summary>
    public string? Backend(ParseResult parsed) => parsed.GetValue(_backend);

    /// <summary>Body of the create call.</summary>
    public JsonObject ToBody(ParseResult parsed)
    {
        var body = new JsonObject();
        if (parsed.GetResult(_template) is { Implicit: false })
        {
            // The default is the server's too, and a session that begins with a checkpoint may name none.
            body["template"] = parsed.GetValue(_template);
        }

        if (parsed.GetValue(_backend) is { } backend)
        {
            body["backend"] = backend;
        }

        if (parsed.GetValue(_trusted))
        {
            body["untrusted"] = false;
        }

        if (parsed.GetValue(_cpus) is { } cpus)
        {
            body["vcpus"] = cpus;
        }

        if (parsed.GetValue(_devices) is { Length: > 0 } devices)
        {
            body["needs"] = new JsonObject { ["devices"] = new JsonArray([.. devices.Select(Device)]) };
        }

        Add(body, "memoryMiB", "--memory", parsed.GetValue(_memory));
        Add(body, "diskMiB", "--disk", parsed.GetValue(_disk));
        if (parsed.GetValue(_env) is { Length: > 0 } variables)
        {
            var env = new JsonObject();
            foreach (var variable in variables)
            {
                var split = variable.IndexOf('=', StringComparison.Ordinal);
                env[split > 0 ? variable[..split] : throw new UserException($"--env '{variable}': write NAME=VALUE", ExitCodes.Usage)] = variable[(split + 1)..];
            }

            body["env"] = env;
        }

        return body;
    }

    /// <summary>A hexadecimal number has no x in it, so the last one begins the count. What a kind may be is the server's to say.</summary>
    private static JsonNode Device(string text)
    {
        var x = text.LastIndexOf('x');
        var count = 1;
        return x != 0 && text.Length > 0 && (x < 0 || (int.TryParse(text[(x + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out count) && count > 0))
            ? new JsonObject { ["kind"] = x < 0 ? text : text[..x], ["count"] = count }
            : throw new UserException($"--device '{text}': write gpu, npu, 10de or 10de:2684, and for several of them gpux2", ExitCodes.Usage);
    }

    private static void Add(JsonObject body, string member, string option, string? text)
    {
        if (text is not null)
        {
            body[member] = Sizes.ParseMiB(text) ?? throw new UserException($"{option} '{text}': write a size such as 512M or 2G", ExitCodes.Usage);
        }
    }
}
