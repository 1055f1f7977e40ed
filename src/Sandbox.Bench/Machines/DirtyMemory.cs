using System.Globalization;

namespace Sandbox.Bench.Machines;

/// <summary>Python that fills memory with what compresses to one half: each page half random, half zero. Real state is neither all noise nor all nothing.</summary>
internal static class DirtyMemory
{
    /// <summary>Code that leaves <c>b</c>, of so many MiB, in its context.</summary>
    public static string Code(int mebibytes) => string.Create(
        CultureInfo.InvariantCulture,
        $"""
        import os
        b = bytearray({mebibytes} << 20)
        for i in range(0, len(b), 4096):
            b[i:i + 2048] = os.urandom(2048)
        """);
}
