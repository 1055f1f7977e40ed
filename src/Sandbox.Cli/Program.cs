using Sandbox.Cli.Commands;

namespace Sandbox.Cli;

/// <summary>The program <c>sandbox</c>.</summary>
internal static class Program
{
    private static Task<int> Main(string[] args) => Root.InvokeAsync(args);
}
