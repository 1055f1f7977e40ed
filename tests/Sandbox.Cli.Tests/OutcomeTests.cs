using System.Text.Json.Nodes;
using Sandbox.Cli.Runs;
using Xunit;

namespace Sandbox.Cli.Tests;

public sealed class OutcomeTests
{
    [Theory]
    [InlineData("""{"reason":"exited","exitCode":0}""", 0, false)]
    [InlineData("""{"reason":"exited","exitCode":3}""", 3, false)]
    [InlineData("""{"reason":"exited","exitCode":255}""", 255, false)]
    [InlineData("""{"reason":"timedOut","exitCode":143,"signal":15}""", 124, true)]
    [InlineData("""{"reason":"outOfMemory","exitCode":137,"signal":9}""", 137, true)]
    [InlineData("""{"reason":"signaled","exitCode":139,"signal":11}""", 139, true)]
    [InlineData("""{"reason":"killed","exitCode":130,"signal":2}""", 130, true)]
    [InlineData("""{"reason":"notStarted","exitCode":127}""", 127, true)]
    [InlineData("""{"reason":"notStarted","exitCode":0}""", 126, true)]
    [InlineData("""{"reason":"lost","exitCode":255}""", 125, true)]
    [InlineData("""{"reason":"exited","exitCode":1,"diskFull":true}""", 1, true)]
    [InlineData("""{"reason":"exited","exitCode":-7}""", 255, false)]
    [InlineData("""{}""", 125, true)]
    public void An_exit_becomes_what_a_shell_expects(string exit, int code, bool explained)
    {
        var outcome = Outcome.Of(JsonNode.Parse(exit)!);

        Assert.Equal(code, outcome.ExitCode);
        Assert.Equal(explained, outcome.Explanation is not null);
    }
}
