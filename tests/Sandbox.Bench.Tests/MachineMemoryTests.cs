using System.IO.MemoryMappedFiles;
using Sandbox.Bench.Measuring;
using Xunit;

namespace Sandbox.Bench.Tests;

public sealed class MachineMemoryTests
{
    private const int Page = 4096;

    [Fact]
    public void A_mapping_is_found_by_its_size_and_counted_by_what_was_written()
    {
        // A size that nothing else in this process has.
        const int Pages = 3331;
        const int Written = 1000;
        using var file = MemoryMappedFile.CreateNew(null, Pages * Page);
        using var view = file.CreateViewAccessor(0, Pages * Page);
        for (var i = 0; i < Written; i++)
        {
            view.Write(i * Page, (byte)1);
        }

        var mapping = MachineMemory.MappingOf(Environment.ProcessId, Pages * Page);

        Assert.Equal(Written * Page, mapping.PrivateDirty);
        Assert.Equal(Written * Page, mapping.Resident);
        Assert.Equal(Written * Page, mapping.Proportional);
        Assert.Equal(0, mapping.Anonymous);
    }

    [Fact]
    public void A_size_that_no_mapping_has_is_an_error() =>
        Assert.Throws<InvalidDataException>(() => MachineMemory.MappingOf(Environment.ProcessId, (1L << 46) + Page));

    [Fact]
    public void The_machine_has_memory_and_this_process_uses_some()
    {
        Assert.InRange(MachineMemory.Available(), 1, long.MaxValue);
        Assert.InRange(MachineMemory.Proportional(Environment.ProcessId), 1 << 20, long.MaxValue);
    }
}
