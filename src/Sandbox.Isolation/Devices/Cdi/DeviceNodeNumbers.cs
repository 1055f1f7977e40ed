using System.Runtime.InteropServices;

namespace Sandbox.Isolation.Devices.Cdi;

/// <summary>What a device node is.</summary>
/// <param name="Type"><c>c</c>, <c>b</c> or <c>p</c>.</param>
/// <param name="Major">Its driver's number.</param>
/// <param name="Minor">Its number at the driver.</param>
public sealed unsafe partial record DeviceNodeNumbers(string Type, long Major, long Minor)
{
    private const int CurrentDirectory = -100;
    private const uint TypeMask = 1;
    private const int StructBytes = 256;
    private const int ModeAt = 28;
    private const int MajorAt = 128;
    private const int MinorAt = 132;

    /// <summary>Looks at a node of the host (links are followed); <see langword="null"/> where there is none.</summary>
    public static DeviceNodeNumbers? Of(string path)
    {
        var stat = stackalloc byte[StructBytes];
        if (Stat(CurrentDirectory, path, 0, TypeMask, stat) != 0)
        {
            return null;
        }

        var type = (*(ushort*)(stat + ModeAt) & 0xf000) switch { 0x2000 => "c", 0x6000 => "b", 0x1000 => "p", _ => null };
        return type is null ? null : new DeviceNodeNumbers(type, *(uint*)(stat + MajorAt), *(uint*)(stat + MinorAt));
    }

    [LibraryImport("libc", EntryPoint = "statx", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Stat(int directory, string path, int flags, uint mask, byte* result);
}
