using System.CommandLine;
using Sandbox.Cli.Api;

namespace Sandbox.Cli.Commands;

/// <summary>Where the server is and how to be let in; shared by all commands that talk to one.</summary>
internal sealed class ServerOption
{
    /// <summary>Where a server is when nothing is said.</summary>
    public static readonly Uri Default = new("http://127.0.0.1:8080");

    private readonly Option<string?> _url = new("--server") { Description = "The server's address. Default: $SANDBOX_URL, then http://127.0.0.1:8080", HelpName = "URL" };
    private readonly Option<string?> _key = new("--api-key-file") { Description = "File that holds an API key. Default: the key in $SANDBOX_API_KEY; none is needed with serve --dev", HelpName = "FILE" };

    public void AddTo(Command command)
    {
        command.Options.Add(_url);
        command.Options.Add(_key);
    }

    /// <summary>The address that was named, or <see langword="null"/>.</summary>
    public Uri? Named(ParseResult parsed)
    {
        var text = parsed.GetValue(_url) ?? Environment.GetEnvironmentVariable("SANDBOX_URL");
        return string.IsNullOrEmpty(text) ? null
            : Uri.TryCreate(text, UriKind.Absolute, out var url) && url.Scheme is "http" or "https" ? url
            : throw new UserException($"'{text}' is no server address; write for example http://127.0.0.1:8080", ExitCodes.Usage);
    }

    public SandboxApi Connect(ParseResult parsed, bool mayWake = true) => new(Named(parsed) ?? Default, Key(parsed), mayWake);

    /// <summary>The key; never from the command line itself, where every user of the machine could read it.</summary>
    public string? Key(ParseResult parsed) =>
        parsed.GetValue(_key) is { } file ? File.ReadAllText(file).Trim()
        : Environment.GetEnvironmentVariable("SANDBOX_API_KEY") is { Length: > 0 } key ? key
        : null;
}
