using Sandbox.Grains.Sessions.State;
using Xunit;

namespace Sandbox.Grains.Tests;

/// <summary>What the index remembers of a running command is bounded: the index is written at each start and end.</summary>
public sealed class RememberedCommandTests
{
    [Fact]
    public void A_short_command_is_remembered_whole()
    {
        Assert.Equal(["/bin/bash", "-l", "-c", "echo"], ExecutionIndex.Clip(["/bin/bash", "-l", "-c", "echo"])!);
        Assert.Null(ExecutionIndex.Clip(null));
    }

    [Fact]
    public void A_long_one_is_clipped()
    {
        var clipped = ExecutionIndex.Clip(["sh", "-c", new string('x', 100_000), "rest"])!;
        Assert.Equal(3, clipped.Count);
        Assert.EndsWith("x…", clipped[2], StringComparison.Ordinal);
        Assert.InRange(clipped.Sum(a => a.Length), 4000, 4100);

        Assert.InRange(ExecutionIndex.Clip([.. Enumerable.Repeat("", 5000)])!.Count, 1, 4096);
    }
}
