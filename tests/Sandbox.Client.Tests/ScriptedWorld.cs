using System.Text;
using Sandbox.Abstractions;
using Sandbox.Client.Output;

namespace Sandbox.Client.Tests;

/// <summary>
/// Hosts with logs of one execution, and a session that says where it is. Each place answers from a script, one line a look; its last line stays. What a look or a question sets off is part of the
/// script, so that no clock decides what happens when.
/// </summary>
internal sealed class ScriptedWorld
{
    private readonly Dictionary<string, Queue<Func<long, OutputPage>>> _places = [];
    private readonly Queue<Func<Whereabouts>> _session = new();

    /// <summary>Deadlines small enough to reach, pauses small enough to sit through.</summary>
    public SandboxClientOptions Options { get; } = new() { StreamSilence = TimeSpan.FromMilliseconds(1), PausedPoll = TimeSpan.FromMilliseconds(1), RetryDeadline = TimeSpan.FromMinutes(10) };

    /// <summary>Each look at a log (host and number) and each question to the session (<c>?</c>), in order.</summary>
    public List<string> Asked { get; } = [];

    public ScriptedWorld At(string host, params Func<long, OutputPage>[] script)
    {
        _places[host] = new(script);
        return this;
    }

    public ScriptedWorld Session(params Func<Whereabouts>[] script)
    {
        Array.ForEach(script, _session.Enqueue);
        return this;
    }

    /// <summary>A page with the texts from a number on; what is before the one asked for is left out.</summary>
    public static Func<long, OutputPage> Texts(long first, params string[] texts) =>
        from => Page(from, texts.Select((t, i) => new OutputEvent(first + i, OutputKind.Stdout, DateTimeOffset.UnixEpoch, Encoding.UTF8.GetBytes(t))));

    /// <summary>The exit, at a number.</summary>
    public static Func<long, OutputPage> Exit(long seq) =>
        from => Page(from, [new OutputEvent(seq, OutputKind.Exit, DateTimeOffset.UnixEpoch, OutputJson.Write(new ExecutionExit { Reason = ExitReason.Exited, ExitCode = 0 }))]) with { Complete = true };

    /// <summary>Nothing, and there will be nothing here.</summary>
    public static OutputPage Suspended(long from) => Page(from, []) with { Suspended = true };

    public static OutputPage Dead(long from) => throw SandboxException.Unavailable($"the silo is away ({from})");

    public static OutputPage Gone(long from) => throw SandboxException.NotFound($"no such log ({from})");

    public static Func<Whereabouts> Says(string host, bool ended = false, bool lost = false, bool waiting = false) => () => new Whereabouts(host, ended, lost, waiting);

    /// <summary>Reads it all, as numbers; the exit is said as such.</summary>
    public async Task<string> ReadAsync(string host, long from = 1, OutputFeed? feed = null)
    {
        var log = new OutputLog(host, (at, seq, _, _) => Task.FromResult(Look(at, seq)), _ => Task.FromResult(Ask()), Options);
        var seen = new List<string>();
        await foreach (var e in OutputReader.ReadAsync(log, feed ?? new OutputFeed(null), Options, from, CancellationToken.None).WithCancellation(CancellationToken.None))
        {
            seen.Add(e.Kind == OutputKind.Exit ? $"{e.Seq}:exit" : $"{e.Seq}:{Encoding.UTF8.GetString(e.Data)}");
        }

        return string.Join(' ', seen);
    }

    private static OutputPage Page(long from, IEnumerable<OutputEvent> events)
    {
        List<OutputEvent> wanted = [.. events.Where(e => e.Seq >= from)];
        return new OutputPage { Events = wanted, NextSeq = from + wanted.Count, Complete = false };
    }

    private OutputPage Look(string host, long seq)
    {
        Asked.Add($"{host}{seq}");
        var script = _places[host];
        return (script.Count > 1 ? script.Dequeue() : script.Peek())(seq);
    }

    private Whereabouts Ask()
    {
        Asked.Add("?");
        return (_session.Count > 1 ? _session.Dequeue() : _session.Peek())();
    }
}
