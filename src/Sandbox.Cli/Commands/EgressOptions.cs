using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Sandbox.Cli.Commands;

/// <summary>What a session may reach outside, as the commands take it: a file, or a few words that make up a policy.</summary>
internal sealed class EgressOptions
{
    private readonly Option<FileInfo?> _file = new("--egress") { Description = "Egress policy (JSON); default: your tenant's, which until set lets it reach nothing", HelpName = "FILE" };
    private readonly Option<string[]> _allow = new("--allow") { Description = "Let it reach a host (pypi.org, *.example.com, example.com:8443) or an IPv4 range; repeatable", HelpName = "HOST" };
    private readonly Option<string[]> _preset = new("--preset") { Description = "Let it reach what a tool needs: pip, npm, apt, github, …; see `sandbox policy presets`; repeatable", HelpName = "NAME" };
    private readonly Option<string[]> _secret = new("--secret") { Description = "Give it a secret's placeholder in its environment; see `sandbox secret`; repeatable", HelpName = "NAME" };
    private readonly Option<bool> _internet = new("--internet") { Description = "Let it reach every public address" };
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "Deny nothing, but log what the policy would deny" };

    public void AddTo(Command command)
    {
        foreach (var option in (Option[])[_file, _allow, _preset, _secret, _internet, _dryRun])
        {
            command.Options.Add(option);
        }
    }

    /// <summary>The policy that was asked for, or <see langword="null"/> where nothing was said.</summary>
    public JsonObject? Policy(ParseResult parsed)
    {
        var (allow, presets, secrets) = (parsed.GetValue(_allow) ?? [], parsed.GetValue(_preset) ?? [], parsed.GetValue(_secret) ?? []);
        var (internet, dryRun) = (parsed.GetValue(_internet), parsed.GetValue(_dryRun));
        var policy = parsed.GetValue(_file) is { } file ? Read(file) : null;
        if (policy is null && allow.Length + presets.Length + secrets.Length == 0 && !internet && !dryRun)
        {
            return null;
        }

        policy ??= [];
        Append(policy, "rules", allow.Select(Rule).Concat(internet ? [new JsonObject { ["action"] = "allow", ["cidr"] = "0.0.0.0/0" }, new JsonObject { ["action"] = "allow", ["host"] = "*" }] : []));
        Append(policy, "presets", presets.Select(p => (JsonNode)p));
        Append(policy, "secrets", secrets.Select(s => (JsonNode)s));
        if (dryRun)
        {
            policy["mode"] = "dryRun";
        }

        return policy;
    }

    /// <summary>A policy out of a file; <c>-</c> is standard input.</summary>
    public static JsonObject Read(FileInfo file)
    {
        try
        {
            var text = file.Name == "-" && !file.Exists ? Console.In.ReadToEnd() : File.ReadAllText(file.FullName);
            return JsonNode.Parse(text) as JsonObject ?? throw new UserException($"{file}: an egress policy is a JSON object", ExitCodes.Usage);
        }
        catch (JsonException e)
        {
            throw new UserException($"{file} is no JSON: {e.Message}", ExitCodes.Usage);
        }
        catch (IOException e)
        {
            throw new UserException($"{file} cannot be read: {e.Message}", ExitCodes.Usage);
        }
    }

    /// <summary>One rule of a word: a host, a host with a port, or a range.</summary>
    internal static JsonNode Rule(string text)
    {
        var colon = text.LastIndexOf(':');
        var (target, port) = colon > 0 && int.TryParse(text[(colon + 1)..], out var number) ? (text[..colon], number) : (text, 0);
        var isAddress = target.Length > 0 && target.All(c => char.IsAsciiDigit(c) || c is '.' or '/');
        var rule = new JsonObject { ["action"] = "allow", [isAddress ? "cidr" : "host"] = isAddress && !target.Contains('/', StringComparison.Ordinal) ? target + "/32" : target };
        if (port > 0)
        {
            rule["ports"] = new JsonArray(port);
        }

        return rule;
    }

    private static void Append(JsonObject policy, string member, IEnumerable<JsonNode> items)
    {
        var list = policy[member] as JsonArray ?? [];
        foreach (var item in items)
        {
            list.Add(item);
        }

        if (list.Count > 0 && list.Parent is null)
        {
            policy[member] = list;
        }
    }
}
