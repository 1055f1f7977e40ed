using System.Collections.Concurrent;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Hosts.Snapshots;

/// <summary>
/// Executions whose output stands still because their session is paused, or went on elsewhere: their logs have no exit and nobody writes to them, and yet they are not lost. A file in the session's directory names them,
/// written before the snapshot is committed, so that no reader takes them for dead after a restart of the host.
/// </summary>
internal sealed class SuspendedExecutions(Func<string, string> directoryOf)
{
    private const string FileName = "suspended";
    private readonly ConcurrentDictionary<string, string> _sessions = new(StringComparer.Ordinal);

    /// <summary>Reads the marks of a predecessor.</summary>
    public void Load(IEnumerable<string> sessions)
    {
        foreach (var session in sessions)
        {
            var file = FileOf(session);
            foreach (var execution in File.Exists(file) ? File.ReadAllLines(file).Where(SandboxIds.IsExecution) : [])
            {
                _sessions[execution] = session;
            }
        }
    }

    /// <summary>Marks executions, beside those of the session that are marked already.</summary>
    public void Add(string session, IReadOnlyCollection<string> executions)
    {
        if (executions.Count == 0)
        {
            return;
        }

        var file = FileOf(session);
        File.WriteAllLines(file + ".partial", Of(session).Union(executions));
        File.Move(file + ".partial", file, overwrite: true);
        foreach (var execution in executions)
        {
            _sessions[execution] = session;
        }
    }

    /// <summary>Takes all marks of a session away.</summary>
    public void Clear(string session)
    {
        if (Directory.Exists(directoryOf(session)))
        {
            File.Delete(FileOf(session));
        }

        foreach (var execution in Of(session))
        {
            _sessions.TryRemove(execution, out _);
        }
    }

    public bool Contains(string execution) => _sessions.ContainsKey(execution);

    private List<string> Of(string session) => [.. _sessions.Where(s => s.Value == session).Select(s => s.Key)];

    private string FileOf(string session) => Path.Combine(directoryOf(session), FileName);
}
