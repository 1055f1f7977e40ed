namespace Sandbox.Guest.Agent.Platform;

/// <summary>Memory of the guest, in bytes, from /proc/meminfo.</summary>
internal readonly record struct Memory(ulong All, ulong Available)
{
    /// <summary>Memory of the machine, which does not change.</summary>
    public static ulong Total { get; } = Read().All;

    public static Memory Read()
    {
        ulong total = 0, available = 0;
        foreach (var line in File.ReadLines("/proc/meminfo").Take(5))
        {
            var fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (fields[0] == "MemTotal:")
            {
                total = ulong.Parse(fields[1]) * 1024;
            }
            else if (fields[0] == "MemAvailable:")
            {
                available = ulong.Parse(fields[1]) * 1024;
            }
        }

        return new Memory(total, available);
    }
}
