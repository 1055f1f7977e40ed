using System.Globalization;
using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Xunit;

namespace Sandbox.Isolation.Oci.Tests;

/// <summary>What a session's log has of one execution, over the lives of its container.</summary>
internal sealed class ExecutionLog
{
    public const string Id = "counting";
    private readonly Lock _lock = new();
    private readonly List<(ulong Seq, string Text)> _said = [];

    /// <summary>A command that counts, a line every few milliseconds.</summary>
    public static StartExecution Counting => new()
    {
        ExecutionId = Id,
        Command = new Command { Argv = { "/usr/bin/python3", "-uc", "import time\nn = 0\nwhile True:\n n += 1\n print(n)\n time.sleep(0.005)" } },
    };

    public Task Reading { get; private set; } = Task.CompletedTask;

    public Exited? Exited { get; private set; }

    public ulong LastSeq
    {
        get
        {
            lock (_lock)
            {
                return _said.Count > 0 ? _said[^1].Seq : 0;
            }
        }
    }

    public int Count => Text().Count(c => c == '\n');

    public void GoOn(IGuestExecution execution) => Reading = Task.Run(async () =>
    {
        try
        {
            await foreach (var e in execution.Events)
            {
                lock (_lock)
                {
                    Assert.Equal(LastSeq + 1, e.Seq);
                    _said.Add((e.Seq, e.Output?.Data.ToStringUtf8() ?? ""));
                    Exited = e.Exited;
                }

                await execution.AcknowledgeAsync(e.Seq, CancellationToken.None);
            }
        }
        catch (GuestUnavailableException)
        {
            // The container is gone.
        }
    });

    public ExecutionLog AsOf(ulong seq)
    {
        var log = new ExecutionLog();
        lock (_lock)
        {
            log._said.AddRange(_said.Where(s => s.Seq <= seq));
        }

        return log;
    }

    public async Task AtLeastAsync(int count)
    {
        for (var waited = 0; Count < count; waited++)
        {
            Assert.True(waited < 3000 && !Reading.IsFaulted, $"{Count} of {count} lines came. {Reading.Exception}");
            await Task.Delay(10);
        }
    }

    public void RequireEveryLine()
    {
        var lines = Text().Split('\n');
        Assert.Equal(Enumerable.Range(1, lines.Length - 1).Select(n => n.ToString(CultureInfo.InvariantCulture)), lines[..^1]);
    }

    private string Text()
    {
        var text = new StringBuilder();
        lock (_lock)
        {
            foreach (var (_, said) in _said)
            {
                text.Append(said);
            }
        }

        return text.ToString();
    }
}
