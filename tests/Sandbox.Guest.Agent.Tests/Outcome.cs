using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Guest.Agent.Tests;

/// <summary>Everything one execution said.</summary>
public sealed class Outcome
{
    private readonly Dictionary<OutputFd, MemoryStream> _output = [];

    public List<ExecutionEvent> Events { get; } = [];

    public Exited Exited { get; private set; } = null!;

    public string Stdout => Text(OutputFd.Stdout);

    public string Stderr => Text(OutputFd.Stderr);

    public string Terminal => Text(OutputFd.Pty);

    public IEnumerable<RichResult> Results => Events.Where(e => e.Result is not null).Select(e => e.Result);

    public CodeError? Error => Events.FirstOrDefault(e => e.CodeError is not null)?.CodeError;

    public string MainText => Encoding.UTF8.GetString(Results.Single(r => r.IsMain).Data["text/plain"].Span);

    public byte[] Bytes(OutputFd fd) => _output.TryGetValue(fd, out var stream) ? stream.ToArray() : [];

    public static async Task<Outcome> OfAsync(IGuestExecution execution, Func<Outcome, ExecutionEvent, Task>? onEvent = null)
    {
        var outcome = new Outcome();
        using var deadline = new CancellationTokenSource(AgentFixture.Patience);
        await foreach (var e in execution.Events.WithCancellation(deadline.Token))
        {
            outcome.Take(e);
            if (onEvent is not null)
            {
                await onEvent(outcome, e);
            }

            await execution.AcknowledgeAsync(e.Seq, deadline.Token);
        }

        return outcome;
    }

    private void Take(ExecutionEvent e)
    {
        Events.Add(e);
        Exited = e.Exited ?? Exited;
        if (e.Output is { } output)
        {
            if (!_output.TryGetValue(output.Fd, out var stream))
            {
                _output[output.Fd] = stream = new MemoryStream();
            }

            stream.Write(output.Data.Span);
        }
    }

    private string Text(OutputFd fd) => Encoding.UTF8.GetString(Bytes(fd));
}

/// <summary>Shorthand for starting things.</summary>
internal static class Starting
{
    private static int _next;

    public static StartExecution Command(params string[] argv)
    {
        var start = new StartExecution { ExecutionId = "e" + Interlocked.Increment(ref _next), Command = new Command(), Cwd = "/" };
        start.Command.Argv.AddRange(argv);
        return start;
    }

    public static StartExecution Shell(string script) => Command("bash", "-c", script);

    public static StartExecution Code(string context, string source) =>
        new() { ExecutionId = "e" + Interlocked.Increment(ref _next), Code = new Code { ContextId = context, Source = source } };

    public static async Task<Outcome> RunAsync(this IGuest guest, StartExecution start) =>
        await Outcome.OfAsync(await guest.StartExecutionAsync(start, CancellationToken.None));

    public static Task<Outcome> RunCodeAsync(this IGuest guest, string context, string source) => guest.RunAsync(Code(context, source));

    public static Task<Response> AskAsync(this IGuest guest, Request request) => guest.RequestAsync(request, CancellationToken.None);

    public static Task<Response> CreateContextAsync(this IGuest guest, string id, string language, string cwd = "/tmp") =>
        guest.AskAsync(new Request { CreateContext = new CreateContext { ContextId = id, Language = language, Cwd = cwd } });
}
