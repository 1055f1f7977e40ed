namespace Sandbox.Guest.Agent.Platform;

/// <summary>Space of the writable disk.</summary>
internal static unsafe class Disk
{
    /// <summary>Below this much free space a disk counts as full: less than any program's temporary file.</summary>
    private const ulong FullBelow = 1 << 20;

    public static (ulong Total, ulong Free) Space(string path)
    {
        FileSystemStat stat;
        return Native.StatFileSystem(path, &stat) == 0 ? (stat.Blocks * stat.FragmentSize, stat.Available * stat.FragmentSize) : (0, 0);
    }

    public static bool IsFull(string path)
    {
        var (total, free) = Space(path);
        return total > 0 && free < FullBelow;
    }
}
