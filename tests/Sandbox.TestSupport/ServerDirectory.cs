using System.Globalization;

namespace Sandbox.TestSupport;

/// <summary>A server's temporary directory. Its name has the owner's process id, so that a later run removes what a killed one left behind.</summary>
internal sealed class ServerDirectory : IDisposable
{
    private ServerDirectory(string path) => FullPath = path;

    public string FullPath { get; }

    public static async Task<ServerDirectory> CreateAsync(string kind, string? user)
    {
        var prefix = $"sandbox-test-{kind}-";
        foreach (var directory in Directory.GetDirectories(Path.GetTempPath(), prefix + "*"))
        {
            var owner = Path.GetFileName(directory)[prefix.Length..].Split('-')[0];
            if (int.TryParse(owner, NumberStyles.None, CultureInfo.InvariantCulture, out var id) && !Directory.Exists($"/proc/{id}"))
            {
                TryDelete(directory);
            }
        }

        var path = Path.Combine(Path.GetTempPath(), $"{prefix}{Environment.ProcessId}-{Guid.NewGuid():N}");
        Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        if (user is not null && Environment.IsPrivilegedProcess)
        {
            await ChildProcess.RunAsync(["chown", user + ":", path]);
        }

        return new ServerDirectory(path);
    }

    public void Dispose() => TryDelete(FullPath);

    private static void TryDelete(string path)
    {
        try
        {
            Directory.Delete(path, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Somebody else's, or removed at the same time; the next run tries again.
        }
    }
}
