using System.Runtime.CompilerServices;
using Sandbox.Isolation.Firecracker.Tests.Double;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>Runs the tests; or, where the first argument says so, is the program that they start in place of Firecracker or its jailer.</summary>
public static class Program
{
    public static Task<int> Main(string[] args) => args is ["--double", var role, var folder, .. var rest] ? DoubleProgram.RunAsync(role, folder, rest) : RunTestsAsync(args);

    /// <summary>Apart, so that the double loads nothing of the test framework.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Task<int> RunTestsAsync(string[] args) =>
        args.Any(a => a is "-automated" or "@@")
            ? Xunit.Runner.InProc.SystemConsole.ConsoleRunner.Run(args)
            : Xunit.MicrosoftTestingPlatform.TestPlatformTestFramework.RunAsync(args, SelfRegisteredExtensions.AddSelfRegisteredExtensions);
}
