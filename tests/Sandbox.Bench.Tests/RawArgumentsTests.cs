using Sandbox.Bench.Machines;
using Xunit;

namespace Sandbox.Bench.Tests;

/// <summary>What of a clone's arguments a raw machine keeps.</summary>
public sealed class RawArgumentsTests
{
    private static readonly string[] Donor =
    [
        "-name", "b1", "-object", "memory-backend-file,id=ram,size=512M,mem-path=/dev/fd/7,share=off",
        "-chardev", "socket,id=qmp,path=/run/b1/qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        "-chardev", "socket,id=agent,path=/run/b1/agent,server=on,wait=off", "-append", "console=ttyS0", "-S", "-incoming", "defer",
    ];

    [Fact]
    public void A_machine_that_boots_neither_waits_for_a_state_nor_stands_still() => Assert.Equal(
        [
            "-name", "raw", "-object", "memory-backend-memfd,id=ram,size=512M,share=on",
            "-chardev", "socket,id=qmp,path=/raw/qmp,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
            "-chardev", "socket,id=agent,path=/raw/agent,server=on,wait=off", "-append", "console=ttyS0",
        ],
        RawArguments.Of(Donor, "/raw", 512, RawStart.Boot));

    [Fact]
    public void A_clone_keeps_the_golden_memory_and_waits_for_the_golden_state()
    {
        var arguments = RawArguments.Of(Donor, "/raw", 512, RawStart.Clone);

        Assert.Contains(Donor[3], arguments);
        Assert.Equal(["-S", "-incoming", "defer"], arguments.TakeLast(3));
        Assert.Single(arguments, "-S");
    }

    [Fact]
    public void A_machine_that_was_saved_has_memory_of_its_own_and_reads_all_of_its_state()
    {
        var arguments = RawArguments.Of(Donor, "/raw", 512, RawStart.Restore);

        Assert.Contains("memory-backend-memfd,id=ram,size=512M,share=on", arguments);
        Assert.Equal(["-S", "-incoming", "fd:8"], arguments.TakeLast(3));
    }
}
