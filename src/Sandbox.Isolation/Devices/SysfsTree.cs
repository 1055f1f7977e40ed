namespace Sandbox.Isolation.Devices;

/// <summary>
/// The kernel's view of devices, below a root that is <c>/sys</c> outside of tests. Reading never throws: what is missing, is not what it should be or cannot be read is as if it were not there, because drivers of whatever quality write it.
/// </summary>
public class SysfsTree(string root = "/sys")
{
    /// <summary>Most bytes that are read of a file. The kernel's own limit is a page.</summary>
    private const int MaxFile = 4096;

    /// <summary>Most entries of a directory that are looked at.</summary>
    private const int MaxEntries = 4096;

    /// <summary>Where it is.</summary>
    public string Root { get; } = root;

    /// <summary>Path of something below the root.</summary>
    public string PathOf(params string[] parts) => Path.Combine([Root, .. parts]);

    /// <summary>First line of a file without what cannot be printed, or <see langword="null"/>.</summary>
    public virtual string? ReadLine(params string[] parts)
    {
        try
        {
            using var file = File.OpenRead(PathOf(parts));
            var buffer = new byte[MaxFile];
            var length = file.ReadAtLeast(buffer, buffer.Length, throwOnEndOfStream: false);
            var text = System.Text.Encoding.UTF8.GetString(buffer, 0, length);
            return new string([.. text.Split('\n')[0].Where(c => c is >= ' ' and < (char)127)]).Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }

    /// <summary>Last part of what a link leads to, or <see langword="null"/>.</summary>
    public virtual string? LinkName(params string[] parts)
    {
        try
        {
            return new FileInfo(PathOf(parts)).LinkTarget is { } target ? Path.GetFileName(target.TrimEnd('/')) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }

    /// <summary>Names in a directory, in order.</summary>
    public virtual IReadOnlyList<string> List(params string[] parts)
    {
        try
        {
            return [.. Directory.EnumerateFileSystemEntries(PathOf(parts)).Take(MaxEntries).Select(e => Path.GetFileName(e)!).Order(StringComparer.Ordinal)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return [];
        }
    }

    /// <summary>Whether there is such a file.</summary>
    public virtual bool Exists(params string[] parts) => File.Exists(PathOf(parts));

    /// <summary>Writes to a file that is there; what that does is the kernel's business.</summary>
    /// <exception cref="IOException">There is no such file, or the kernel refuses.</exception>
    /// <exception cref="UnauthorizedAccessException">This process may not.</exception>
    public virtual void Write(string text, params string[] parts)
    {
        using var file = new FileStream(PathOf(parts), FileMode.Open, FileAccess.Write);
        file.Write(System.Text.Encoding.ASCII.GetBytes(text));
    }
}
