using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Files;

/// <summary>
/// Finds the first paths below a directory in byte order, behind a given one. Directories may be of any size: what is kept at once is one page, and
/// a walk that looks at too much gives up. Names that are not UTF-8 cannot be said in the protocol and are left out.
/// </summary>
internal sealed class DirectoryWalk(string after, int most)
{
    /// <summary>Entries looked at for one page.</summary>
    private const int MaxVisited = 2_000_000;

    private static readonly EnumerationOptions All = new() { AttributesToSkip = 0, IgnoreInaccessible = false, RecurseSubdirectories = false, MatchType = MatchType.Simple };

    private readonly SortedSet<string> _found = new(Comparer<string>.Create(Compare));
    private int _visited;

    /// <summary>What was found, in order.</summary>
    public IEnumerable<string> Found => _found;

    /// <summary>Looks at a directory, and at those below it down to a depth (1: only its own entries). Links are not followed.</summary>
    /// <exception cref="AgentException">The directory cannot be read, or there is too much in it.</exception>
    public void Visit(string directory, int depth) => Visit(directory, depth, top: true);

    private static int Compare(string left, string right)
    {
        // Only surrogates make the order of UTF-16 differ from that of bytes.
        var length = Math.Min(left.Length, right.Length);
        for (var i = 0; i < length; i++)
        {
            var (l, r) = (left[i], right[i]);
            if (l != r)
            {
                return char.IsSurrogate(l) == char.IsSurrogate(r) ? l - r : char.IsSurrogate(l) ? 1 : -1;
            }
        }

        return left.Length - right.Length;
    }

    private void Visit(string directory, int depth, bool top)
    {
        try
        {
            foreach (var entry in new DirectoryInfo(directory).EnumerateFileSystemInfos("*", All))
            {
                if (++_visited > MaxVisited)
                {
                    throw new AgentException(ErrorCode.ResourceExhausted, $"There are more than {MaxVisited} files to look at below {directory}; list less at once.");
                }

                if (entry.Name.Contains('\ufffd'))
                {
                    continue;
                }

                var path = directory == "/" ? "/" + entry.Name : directory.TrimEnd('/') + "/" + entry.Name;
                Add(path);
                if (depth > 1 && (entry.Attributes & (FileAttributes.Directory | FileAttributes.ReparsePoint)) == FileAttributes.Directory && MayHold(path))
                {
                    Visit(path, depth - 1, top: false);
                }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (top)
            {
                _ = FileOperations.Do<int>(directory, () => throw e);
            }
        }
    }

    private void Add(string path)
    {
        if ((_found.Count == most && Compare(path, _found.Max!) >= 0) || (after.Length > 0 && Compare(path, after) <= 0))
        {
            return;
        }

        _found.Add(path);
        if (_found.Count > most)
        {
            _found.Remove(_found.Max!);
        }
    }

    /// <summary>Whether anything below a directory can be on the page.</summary>
    private bool MayHold(string directory)
    {
        var first = directory + "/";
        var beyond = _found.Count == most && Compare(first, _found.Max!) >= 0;
        return !beyond && (after.Length == 0 || after.StartsWith(first, StringComparison.Ordinal) || Compare(first, after) > 0);
    }
}
