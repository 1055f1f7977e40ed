using System.Collections.Concurrent;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Output;

/// <summary>Output logs as files <c>&lt;root&gt;/&lt;session&gt;/&lt;execution&gt;.log</c>.</summary>
internal sealed class FileOutputLogs(string root, TimeProvider clock) : IOutputLogs, IDisposable
{
    private readonly ConcurrentDictionary<string, Lazy<FileOutputLog>> _open = new(StringComparer.Ordinal);

    public IOutputLog Create(string sessionId, string executionId)
    {
        Directory.CreateDirectory(SessionDirectory(sessionId));
        return Open(PathOf(sessionId, executionId));
    }

    public IOutputLog? Find(string sessionId, string executionId)
    {
        var path = PathOf(sessionId, executionId);
        return _open.TryGetValue(path, out var log) ? log.Value : File.Exists(path) ? Open(path) : null;
    }

    public void DeleteSession(string sessionId)
    {
        var directory = SessionDirectory(sessionId);
        foreach (var path in _open.Keys.Where(p => p.StartsWith(directory + "/", StringComparison.Ordinal)))
        {
            Close(path);
        }

        if (Directory.Exists(directory))
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    public void CloseIdle(TimeSpan unused)
    {
        var limit = clock.GetUtcNow() - unused;
        foreach (var (path, log) in _open)
        {
            if (log.Value.Exit is not null && log.Value.LastUsed < limit)
            {
                Close(path);
            }
        }
    }

    public void Dispose()
    {
        foreach (var path in _open.Keys)
        {
            Close(path);
        }
    }

    private FileOutputLog Open(string path) => _open.GetOrAdd(path, p => new Lazy<FileOutputLog>(() => new FileOutputLog(p, clock))).Value;

    private void Close(string path)
    {
        if (_open.TryRemove(path, out var log))
        {
            log.Value.Dispose();
        }
    }

    private string SessionDirectory(string sessionId) =>
        SandboxIds.IsSession(sessionId) ? Path.Combine(root, sessionId) : throw new ArgumentException($"'{sessionId}' is not a session id.", nameof(sessionId));

    private string PathOf(string sessionId, string executionId) =>
        SandboxIds.IsExecution(executionId)
            ? Path.Combine(SessionDirectory(sessionId), executionId + ".log")
            : throw new ArgumentException($"'{executionId}' is not an execution id.", nameof(executionId));
}
