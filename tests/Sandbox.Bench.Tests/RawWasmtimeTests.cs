using Sandbox.Bench.Benches;
using Sandbox.Bench.Machines;
using Xunit;

namespace Sandbox.Bench.Tests;

public sealed class RawWasmtimeTests
{
    [Fact]
    public void Samples_are_read_in_microseconds_and_told_in_milliseconds()
    {
        var (cold, more) = RawWasmtime.Read("785.8 15.3\n901.5 20.2\n656.4 13.8\n", 3);
        Assert.Equal(0.7858, cold.Median, 6);
        Assert.Equal(0.0153, more.Median, 6);
    }

    [Theory]
    [InlineData("")]
    [InlineData("1.0\n2.0\n")]
    [InlineData("1.0 2.0\n")]
    public void Too_few_are_an_error(string said) => Assert.Throws<BenchException>(() => RawWasmtime.Read(said, 2));
}
