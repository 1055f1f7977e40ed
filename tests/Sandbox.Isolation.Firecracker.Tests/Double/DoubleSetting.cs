using System.Text.Json;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>
/// What a test says to its doubles, and they to it, through a folder: <c>faults</c> holds a line for each thing that shall go wrong, <c>log-ID</c> what was asked, <c>broker</c> is where agents are had.
/// </summary>
internal sealed class DoubleSetting(string folder)
{
    private readonly string[] _faults = File.Exists(Path.Combine(folder, "faults")) ? File.ReadAllLines(Path.Combine(folder, "faults")) : [];
    private StreamWriter? _log;

    public string Broker => Path.Combine(folder, "broker");

    public bool Has(string fault) => _faults.Contains(fault, StringComparer.Ordinal);

    /// <summary>A line "refuse METHOD PATH" or "hang METHOD PATH".</summary>
    public ApiAnswer? FaultOf(ApiRequest request)
    {
        if (Has($"hang {request.Method} {request.Path}"))
        {
            Thread.Sleep(Timeout.Infinite);
        }

        return Has($"refuse {request.Method} {request.Path}") ? ApiAnswer.Refuse("refused, as asked") : null;
    }

    /// <summary>A line "die METHOD PATH": a crash right after the answer was made.</summary>
    public void DieAfter(ApiRequest request)
    {
        if (Has($"die {request.Method} {request.Path}"))
        {
            Console.Error.WriteLine("thread 'main' panicked, as asked");
            Environment.Exit(148);
        }
    }

    /// <summary>Opened while the process still may.</summary>
    public void OpenLog(string id) => _log = new StreamWriter(new FileStream(Path.Combine(folder, "log-" + id), FileMode.Append, FileAccess.Write, FileShare.ReadWrite)) { AutoFlush = true };

    public void Log(string id, object what)
    {
        if (_log is null)
        {
            OpenLog(id);
        }

        lock (_log!)
        {
            _log.WriteLine(JsonSerializer.Serialize(what));
        }
    }
}
