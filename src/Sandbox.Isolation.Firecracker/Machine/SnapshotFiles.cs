using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Firecracker.Api;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>
/// The two files that Firecracker writes a machine into. They are made and held open here, and given to its user: whatever it puts in their place is not read, and no link of its is followed.
/// </summary>
internal sealed class SnapshotFiles : IDisposable
{
    private readonly string _statePath;
    private readonly string _memoryPath;
    private readonly SafeFileHandle _state;

    public SnapshotFiles(FirecrackerDirectory directory, uint? userId)
    {
        _statePath = Path.Combine(directory.RootPath, MachineFiles.SavedState);
        _memoryPath = Path.Combine(directory.RootPath, MachineFiles.SavedMemory);
        _state = Make(_statePath, userId);
        try
        {
            Memory = Make(_memoryPath, userId);
        }
        catch
        {
            _state.Dispose();
            File.Delete(_statePath);
            throw;
        }
    }

    public SafeFileHandle Memory { get; }

    public static SnapshotCreate Request(bool full) => new(full ? "Full" : "Diff", MachineFiles.SavedState, MachineFiles.SavedMemory);

    /// <exception cref="IsolationException">It is empty or too large.</exception>
    public byte[] ReadState(string vmId)
    {
        var length = RandomAccess.GetLength(_state);
        if (length is 0 or > SourceRules.MaxDevices)
        {
            throw new IsolationException($"MicroVM {vmId} could not be saved: Firecracker wrote {length} bytes as the state of its devices; allowed are 1 to {SourceRules.MaxDevices}.");
        }

        var state = new byte[length];
        SparseFile.ReadFully(_state, state, 0);
        return state;
    }

    public void Dispose()
    {
        _state.Dispose();
        Memory.Dispose();
        Remove(_statePath);
        Remove(_memoryPath);
    }

    private static SafeFileHandle Make(string path, uint? userId)
    {
        Remove(path);
        var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite);
        try
        {
            File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            if (userId is { } id)
            {
                Launcher.Give(file, path, id);
            }

            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static void Remove(string path)
    {
        try
        {
            File.Delete(path);
        }
        catch (DirectoryNotFoundException)
        {
            // The machine was removed meanwhile, and this with it.
        }
    }
}
