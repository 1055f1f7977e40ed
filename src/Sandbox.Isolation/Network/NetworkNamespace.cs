using System.Runtime.ExceptionServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Network;

/// <summary>
/// A network namespace that a file holds (a bind mount, as `ip netns` makes them): it is found again, and removed, from nothing but the file system.
/// </summary>
internal sealed class NetworkNamespace : IDisposable
{
    private readonly SafeFileHandle _handle;

    private NetworkNamespace(string path, SafeFileHandle handle) => (Path, _handle) = (path, handle);

    /// <summary>The file, for programs that enter.</summary>
    public string Path { get; }

    /// <summary>Makes a namespace with nothing in it but a loopback interface that is down.</summary>
    /// <exception cref="IOException">It could not be made; nothing is left of it.</exception>
    public static NetworkNamespace Create(string path)
    {
        File.Create(path).Dispose();
        try
        {
            OnThread(() =>
            {
                if (NetworkNative.Unshare(NetworkNative.NewNetwork) != 0)
                {
                    throw NetworkNative.Failed("A network namespace cannot be made");
                }

                return NetworkNative.Mount("/proc/thread-self/ns/net", path, null, NetworkNative.BindMount, null) == 0 ? 0 : throw NetworkNative.Failed($"A network namespace cannot be kept at {path}");
            });
            return new NetworkNamespace(path, OpenFile(path));
        }
        catch
        {
            Remove(path);
            throw;
        }
    }

    /// <summary>Removes a namespace by its file; it is gone once nothing is in it any more. None there is no error.</summary>
    public static void Remove(string path)
    {
        _ = NetworkNative.Unmount(path, NetworkNative.DetachMount);

        try
        {
            // Unlinking also ends copies of the mount that other mount namespaces have.
            File.Delete(path);
        }
        catch (DirectoryNotFoundException)
        {
            // Removed before, and the directory after it.
        }
    }

    /// <summary>Opens a namespace by a file under /proc or by the one that holds it.</summary>
    /// <exception cref="IOException">There is none.</exception>
    public static SafeFileHandle OpenFile(string path)
    {
        var fd = NetworkNative.Open(path, NetworkNative.ReadOnly | NetworkNative.CloseOnExec);
        return fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true) : throw NetworkNative.Failed($"The network namespace {path} cannot be opened");
    }

    /// <summary>Calls something inside of the namespace; see <see cref="Inside{T}(SafeFileHandle, Func{T})"/>.</summary>
    public T Inside<T>(Func<T> work) => Inside(_handle, work);

    /// <summary>
    /// Calls something on a thread of its own that has entered the namespace and ends. <paramref name="work"/> makes system calls and nothing else: a thread that it started, or that the runtime started because it
    /// queued something, would stay in the namespace, and with it every socket that is opened there later.
    /// </summary>
    /// <exception cref="IOException">The namespace cannot be entered.</exception>
    public static T Inside<T>(SafeFileHandle handle, Func<T> work) => OnThread(() =>
    {
        var added = false;
        try
        {
            handle.DangerousAddRef(ref added);
            if (NetworkNative.Enter((int)handle.DangerousGetHandle(), NetworkNative.NewNetwork) != 0)
            {
                throw NetworkNative.Failed("The network namespace cannot be entered");
            }

            return work();
        }
        catch (ObjectDisposedException e)
        {
            throw new IOException("The network is gone: its machine has ended.", e);
        }
        finally
        {
            if (added)
            {
                handle.DangerousRelease();
            }
        }
    });

    /// <summary>Sets kernel parameters of the namespace. Those that this kernel does not have are passed over where they are marked with a leading minus.</summary>
    public static void Set(SafeFileHandle handle, params (string Path, string Value)[] settings) => Inside(handle, () =>
    {
        foreach (var (path, value) in settings)
        {
            Write("/proc/sys/net/" + path.TrimStart('-'), value, optional: path[0] == '-');
        }

        return 0;
    });

    /// <summary>The same for this namespace.</summary>
    public void Set(params (string Path, string Value)[] settings) => Set(_handle, settings);

    /// <summary>Lets go of the namespace and removes its file.</summary>
    public void Dispose()
    {
        _handle.Dispose();
        Remove(Path);
    }

    private static unsafe void Write(string path, string value, bool optional)
    {
        var fd = NetworkNative.Open(path, NetworkNative.WriteOnly | NetworkNative.CloseOnExec);
        if (fd < 0 && optional)
        {
            return;
        }

        var bytes = Encoding.ASCII.GetBytes(value);
        fixed (byte* data = bytes)
        {
            var written = fd < 0 ? -1 : NetworkNative.Write(fd, data, (nuint)bytes.Length);
            var failure = written == bytes.Length ? null : NetworkNative.Failed($"{path} cannot be set to {value}");
            if (fd >= 0)
            {
                _ = NetworkNative.Close(fd);
            }

            if (failure is not null)
            {
                throw failure;
            }
        }
    }

    private static T OnThread<T>(Func<T> work)
    {
        T result = default!;
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(
            () =>
            {
                try
                {
                    result = work();
                }
                catch (Exception e)
                {
                    failure = ExceptionDispatchInfo.Capture(e);
                }
            },
            256 * 1024)
        { IsBackground = true, Name = "network namespace" };
        thread.Start();
        thread.Join();
        failure?.Throw();
        return result;
    }
}
