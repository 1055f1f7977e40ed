using System.Globalization;

namespace Sandbox.Server;

/// <summary>Keeps two servers out of one data directory. Held until the process ends, however it ends.</summary>
internal sealed class DataDirectoryLock : IDisposable
{
    private readonly FileStream _file;

    private DataDirectoryLock(FileStream file) => _file = file;

    /// <summary>Takes the lock.</summary>
    /// <exception cref="ServerException">Another server has it, or the directory cannot be written.</exception>
    public static DataDirectoryLock Take(string directory)
    {
        var path = Path.Combine(directory, "lock");
        try
        {
            Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            file.SetLength(0);
            file.Write(System.Text.Encoding.ASCII.GetBytes(Environment.ProcessId.ToString(CultureInfo.InvariantCulture)));
            file.Flush();
            return new DataDirectoryLock(file);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new ServerException($"The data directory {directory} cannot be written: {e.Message}. Name another with --data.", e);
        }
        catch (IOException e)
        {
            throw new DataDirectoryInUseException($"The data directory {directory} is in use{Owner(path)}. Stop that server, or name another directory with --data.", e);
        }
    }

    public void Dispose() => _file.Dispose();

    private static string Owner(string path)
    {
        // The lock keeps .NET from opening the file; the number in it is only a help.
        try
        {
            using var reader = new FileStream(path, new FileStreamOptions { Access = FileAccess.Read, Share = FileShare.ReadWrite | FileShare.Delete });
            using var text = new StreamReader(reader);
            return $" by process {text.ReadToEnd().Trim()}";
        }
        catch (IOException)
        {
            return " by another process";
        }
    }
}
