namespace Sandbox.Isolation.Hosting;

/// <summary>A turn among processes: whoever has the lock file open has it, and loses it when the process ends, however that happens.</summary>
public static class ExclusiveFile
{
    private static readonly TimeSpan Period = TimeSpan.FromMilliseconds(200);

    /// <summary>Waits for the turn. Disposing the file ends it.</summary>
    /// <param name="path">The lock file; made if it is not there. Its directory must exist.</param>
    /// <param name="waiting">Called every 200 ms while another process has the turn.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="DirectoryNotFoundException">There is no such directory.</exception>
    public static async Task<FileStream> AcquireAsync(string path, Action? waiting, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException e) when (e is not (DirectoryNotFoundException or PathTooLongException))
            {
                waiting?.Invoke();
                await Task.Delay(Period, cancellationToken);
            }
        }
    }
}
