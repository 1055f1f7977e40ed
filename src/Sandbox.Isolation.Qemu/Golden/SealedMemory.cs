using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Qemu.Golden;

/// <summary>
/// The memory of a golden snapshot as clones map it: a memfd sealed against writing. QEMU opens the file it maps for writing even where the mapping is private, and an
/// escaped one must not be able to write into the memory of all its siblings.
/// </summary>
internal sealed partial class SealedMemory : IDisposable
{
    private const uint AllowSealing = 2;
    private const uint CloseOnExec = 1;
    private const int AddSeals = 1033;
    private const int SealSealing = 1 | 2 | 4 | 8;
    private readonly SafeFileHandle _file;

    private SealedMemory(SafeFileHandle file) => _file = file;

    /// <summary>A path under which a process that this one starts can open it, for as long as this one lives.</summary>
    public string Path => $"/proc/{Environment.ProcessId}/fd/{_file.DangerousGetHandle()}";

    public static SealedMemory Load(string path)
    {
        var fd = CreateMemoryFile("sandbox-golden", AllowSealing | CloseOnExec);
        if (fd < 0)
        {
            throw new IsolationException($"Cannot make a memory file: {Marshal.GetLastPInvokeErrorMessage()}");
        }

        var file = new SafeFileHandle(fd, ownsHandle: true);
        try
        {
            using (var source = File.OpenHandle(path))
            {
                SparseCopy.Copy(source, file, RandomAccess.GetLength(source));
            }

            if (Control(fd, AddSeals, SealSealing) != 0)
            {
                throw new IsolationException($"Cannot seal the golden memory: {Marshal.GetLastPInvokeErrorMessage()}");
            }

            return new SealedMemory(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public void Dispose() => _file.Dispose();

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int CreateMemoryFile(string name, uint flags);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int Control(int fd, int command, int argument);
}
