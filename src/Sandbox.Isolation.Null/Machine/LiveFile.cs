using System.Text.Json;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Null.Machine;

/// <summary>
/// Held open, with a lock, while a machine of a session lives: among all processes there can be one. The lock is the truth and goes with the process; the content tells people whose it is, and
/// stays after a crash.
/// </summary>
internal sealed class LiveFile : IDisposable
{
    /// <summary>EWOULDBLOCK: another open file has the lock.</summary>
    private const int WouldBlock = 11;

    private readonly FileStream _file;

    private LiveFile(FileStream file) => _file = file;

    /// <summary>Takes the lock of a session, or <see langword="null"/> where nobody watches or there is no session yet.</summary>
    /// <exception cref="IsolationException">Another machine of the session lives. It has been written down.</exception>
    public static LiveFile? Take(string? directory, MicroVmOwner owner, TimeProvider clock)
    {
        if (directory is null || owner.SessionId.Length == 0)
        {
            return null;
        }

        if (Path.GetFileName(owner.SessionId) != owner.SessionId)
        {
            throw new IsolationException($"'{owner.SessionId}' is no session id.");
        }

        Directory.CreateDirectory(directory);
        FileStream file;
        try
        {
            file = new FileStream(Path.Combine(directory, owner.SessionId + ".live"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException e) when (e.HResult == WouldBlock)
        {
            Note(directory, new LiveViolation(clock.GetUtcNow(), owner, Environment.ProcessId));
            throw new IsolationException($"MicroVM {owner.VmId} must not start: another machine of session {owner.SessionId} lives.", e);
        }

        try
        {
            file.SetLength(0);
            file.Write(JsonSerializer.SerializeToUtf8Bytes(owner, OwnerJson.Default.MicroVmOwner));
            return new LiveFile(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>The machine is gone. The file stays, empty: removing it could take it from under another's lock.</summary>
    public void Dispose()
    {
        if (_file.CanWrite)
        {
            _file.SetLength(0);
            _file.Dispose();
        }
    }

    private static void Note(string directory, LiveViolation violation)
    {
        using var log = new FileStream(Path.Combine(directory, "violations.log"), FileMode.Append, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
        log.Write([.. JsonSerializer.SerializeToUtf8Bytes(violation, OwnerJson.Default.LiveViolation), (byte)'\n']);
    }
}
