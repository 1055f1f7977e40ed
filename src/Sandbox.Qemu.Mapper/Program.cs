using Sandbox.Qemu.Mapper;

// Orders on standard input, an answer to each on standard output, until there are no more. A process of its own, and not a thread of the server: .NET takes every stop of a child that is traced for its end.
using var orders = Console.OpenStandardInput();
using var answers = Console.OpenStandardOutput();
while (MapOrder.Read(orders) is { } order)
{
    try
    {
        if (!InjectedCalls.Supported)
        {
            throw new MapperException("memory can be mapped into another process on x86-64 only");
        }

        using var calls = new InjectedCalls(order.Pid);
        foreach (var piece in order.Pieces)
        {
            calls.MapPrivately(piece, order.Descriptor);
        }
    }
    catch (Exception e) when (e is MapperException or IOException or UnauthorizedAccessException)
    {
        MapOrder.Answer(answers, e.Message);
        continue;
    }

    MapOrder.Answer(answers, "");
}
