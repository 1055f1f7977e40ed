namespace Sandbox.Guest.Agent.Platform;

/// <summary>
/// /etc/passwd or /etc/group, split into fields. Every start and every file operation asks for a user, so what was read is kept until the file is another.
/// </summary>
internal sealed unsafe class AccountFile(string path)
{
    /// <summary>What a guest makes larger than this is read each time rather than kept.</summary>
    private const ulong MaxKeptBytes = 256 * 1024;

    /// <summary>The kernel's time stamps have steps of a few milliseconds: a file written just now may be written again without its stamp telling.</summary>
    private const long SettledSeconds = 2;

    private const int CurrentDirectory = -100;
    private const uint ModifiedChangedInodeAndSize = 0x40 | 0x80 | 0x100 | 0x200;

    private Kept? _kept;

    /// <summary>The fields of each line, as the file is now; none if it cannot be read.</summary>
    public string[][] Read()
    {
        StatX s;
        if (Native.Stat(CurrentDirectory, path, 0, ModifiedChangedInodeAndSize, &s) != 0)
        {
            return Split();
        }

        var stamp = new Stamp(s.Inode, s.Size, s.ModifySeconds, s.ModifyNanoseconds, s.ChangeSeconds, s.ChangeNanoseconds);
        if (Volatile.Read(ref _kept) is { } kept && kept.Stamp == stamp)
        {
            return kept.Lines;
        }

        // The stamp is older than what is read after it: at worst it is taken for another one the next time.
        var lines = Split();
        var settled = Math.Abs(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - s.ChangeSeconds) > SettledSeconds;
        Volatile.Write(ref _kept, settled && s.Size <= MaxKeptBytes ? new Kept(stamp, lines) : null);
        return lines;
    }

    private string[][] Split()
    {
        try
        {
            return [.. File.ReadAllLines(path).Select(l => l.Split(':'))];
        }
        catch (IOException)
        {
            return [];
        }
    }

    private readonly record struct Stamp(ulong Inode, ulong Size, long ModifySeconds, uint ModifyNanoseconds, long ChangeSeconds, uint ChangeNanoseconds);

    private sealed record Kept(Stamp Stamp, string[][] Lines);
}
