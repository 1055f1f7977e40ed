using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace Sandbox.EndToEnd.Tests.Crash;

/// <summary>An execution whose start was acknowledged and that counts to <paramref name="Lines"/>, and what was seen of its output: that must never change, and only grow.</summary>
internal sealed record KnownExecution(string Id, int Lines)
{
    private readonly List<string> _seen = [];
    private readonly StringBuilder _stdout = new();

    /// <summary>How it ended, once its exit was read.</summary>
    public JsonNode? Exit { get; private set; }

    /// <summary>The first event that was not seen yet.</summary>
    public int Next => _seen.Count + 1;

    /// <summary>It goes on from another: its first number is not 1.</summary>
    public bool IsContinuation { get; init; }

    /// <summary>Takes a page of output that was read from event <paramref name="from"/> on.</summary>
    public void Take(int from, JsonNode page, KnownSession session)
    {
        var seq = from;
        foreach (var item in page["events"]!.AsArray())
        {
            if ((int)item!["seq"]! != seq)
            {
                throw new CrashViolationException($"Execution {Id}: event {item["seq"]} where {seq} was due.", session);
            }

            var text = item.ToJsonString();
            if (seq <= _seen.Count)
            {
                if (_seen[seq - 1] != text)
                {
                    throw new CrashViolationException($"Execution {Id}: event {seq} was {_seen[seq - 1]} and is now {text}.", session);
                }
            }
            else
            {
                Add(item, text, session);
            }

            seq++;
        }

        if ((bool)page["complete"]! && Exit is null && seq == (int)page["nextSeq"]!)
        {
            throw new CrashViolationException($"Execution {Id} is complete without an exit: {page}", session);
        }
    }

    private void Add(JsonNode item, string text, KnownSession session)
    {
        if (Exit is not null)
        {
            throw new CrashViolationException($"Execution {Id} said {text} after its exit {Exit}.", session);
        }

        _seen.Add(text);
        switch (item["kind"]!.ToString())
        {
            case "stdout":
                _stdout.Append(item["text"]);
                break;
            case "exit":
                Exit = item;
                CheckWhole(session);
                break;
        }
    }

    /// <summary>Numbers without a gap; to the end, if the program says that it came to its end.</summary>
    private void CheckWhole(KnownSession session)
    {
        var numbers = _stdout.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(n => int.TryParse(n, NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : -1).ToList();
        var first = IsContinuation && numbers.Count > 0 ? numbers[0] : 1;
        var ended = Exit!["reason"]!.ToString() == "exited";
        if (!numbers.SequenceEqual(Enumerable.Range(first, numbers.Count)) || (ended && numbers.Count > 0 && numbers[^1] != Lines) || (ended && numbers.Count == 0 && !IsContinuation))
        {
            throw new CrashViolationException($"Execution {Id} was to count to {Lines}, and said {string.Join(' ', numbers)}, then {Exit}.", session);
        }
    }
}
