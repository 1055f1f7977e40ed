using System.Text;

namespace Sandbox.Egress.Secrets;

/// <summary>What is to be replaced by what, in bytes, and the fast way to the places where that can be. Immutable.</summary>
internal sealed class RedactionTable
{
    private readonly Dictionary<ushort, Entry[]> _byStart;

    private RedactionTable(List<Entry> entries)
    {
        // The longest first: of two that begin at one place it is the one that is meant.
        _byStart = entries.GroupBy(e => Start(e.Form)).ToDictionary(g => g.Key, g => g.OrderByDescending(e => e.Form.Length).ToArray());
        MaxLength = entries.Count == 0 ? 0 : entries.Max(e => e.Form.Length);
        foreach (var entry in entries)
        {
            IsFirst[entry.Form[0]] = true;
        }
    }

    /// <summary>Bytes of the longest form.</summary>
    public int MaxLength { get; }

    private bool[] IsFirst { get; } = new bool[256];

    public static RedactionTable From(IEnumerable<SecretBinding> secrets)
    {
        var entries = new Dictionary<string, Entry>(StringComparer.Ordinal);
        foreach (var secret in secrets)
        {
            foreach (var form in SecretForms.Of(secret.Value))
            {
                entries.TryAdd(form, new Entry(Encoding.UTF8.GetBytes(form), Encoding.UTF8.GetBytes(secret.Placeholder)));
            }
        }

        return new RedactionTable([.. entries.Values]);
    }

    /// <summary>
    /// Goes through bytes from left to right and writes them with the secrets replaced. Stops where a match could still begin that needs bytes after the end, unless there are none to come.
    /// </summary>
    /// <returns>How many bytes of the input are done with.</returns>
    public int Replace(ReadOnlySpan<byte> input, bool isEnd, MemoryStream output)
    {
        var at = 0;
        var copied = 0;
        while (at < input.Length)
        {
            if (!IsFirst[input[at]])
            {
                at++;
                continue;
            }

            var rest = input[at..];
            if (!isEnd && CouldNeedMore(rest))
            {
                break;
            }

            if (Match(rest) is not { } entry)
            {
                at++;
                continue;
            }

            output.Write(input[copied..at]);
            output.Write(entry.Placeholder);
            at += entry.Form.Length;
            copied = at;
        }

        output.Write(input[copied..at]);
        return at;
    }

    private static ushort Start(ReadOnlySpan<byte> bytes) => (ushort)((bytes[0] << 8) | bytes[1]);

    // Whether these bytes are the whole beginning of a form longer than they are: then only what comes tells which form matches, if any.
    private bool CouldNeedMore(ReadOnlySpan<byte> rest)
    {
        if (rest.Length >= MaxLength)
        {
            return false;
        }

        if (rest.Length >= 2)
        {
            return _byStart.TryGetValue(Start(rest), out var entries) && HasLonger(entries, rest);
        }

        foreach (var entries in _byStart.Values)
        {
            if (entries[0].Form[0] == rest[0] && HasLonger(entries, rest))
            {
                return true;
            }
        }

        return false;
    }

    private static bool HasLonger(Entry[] entries, ReadOnlySpan<byte> rest)
    {
        foreach (var entry in entries)
        {
            if (entry.Form.Length > rest.Length && entry.Form.AsSpan().StartsWith(rest))
            {
                return true;
            }
        }

        return false;
    }

    private Entry? Match(ReadOnlySpan<byte> rest)
    {
        if (rest.Length >= 2 && _byStart.TryGetValue(Start(rest), out var entries))
        {
            foreach (var entry in entries)
            {
                if (rest.StartsWith(entry.Form))
                {
                    return entry;
                }
            }
        }

        return null;
    }

    private sealed record Entry(byte[] Form, byte[] Placeholder);
}
