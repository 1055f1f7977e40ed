namespace Sandbox.Grains.Hosts.Runtime;

/// <summary>Makes directories with the rights they need.</summary>
internal static class HostDirectories
{
    /// <summary>Others may pass through (an unprivileged VMM opens the disk inside) but not list.</summary>
    public static void CreatePassable(string path) =>
        Create(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute);

    /// <summary>For this process's user only.</summary>
    public static void CreatePrivate(string path) => Create(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);

    private static void Create(string path, UnixFileMode mode)
    {
        if (OperatingSystem.IsWindows())
        {
            throw new PlatformNotSupportedException("A Sandbox host runs on Linux.");
        }

        Directory.CreateDirectory(path, mode);
    }
}
