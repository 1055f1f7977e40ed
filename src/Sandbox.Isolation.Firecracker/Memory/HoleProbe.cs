using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Firecracker.Memory;

/// <summary>
/// Whether a file system tells apart, page by page, what was written to a file and what was not. A differential snapshot says which pages it has by nothing else, so elsewhere only full ones are taken.
/// </summary>
internal static class HoleProbe
{
    private const int Page = 4096;

    public static bool Knows(string directory)
    {
        var path = Path.Combine(directory, $".holes-{Guid.NewGuid():N}");
        try
        {
            Directory.CreateDirectory(directory);
            using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite);
            File.Delete(path);
            RandomAccess.SetLength(file, 64 * Page);
            foreach (var page in (int[])[3, 5, 40])
            {
                RandomAccess.Write(file, new byte[Page], page * Page);
            }

            return SparseFile.BlocksOf(file, 64 * Page, Page).SequenceEqual([(3, 4), (5, 6), (40, 41)]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }
}
