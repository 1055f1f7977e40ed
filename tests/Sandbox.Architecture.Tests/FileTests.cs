using Sandbox.TestSupport;
using Xunit;

namespace Sandbox.Architecture.Tests;

/// <summary>Small rooms: files that a reader can hold in the head.</summary>
public sealed class FileTests
{
    /// <summary>The guide is about 400 lines (CONTRIBUTING.md); this is where "about" ends.</summary>
    private const int MaxLines = 450;

    [Fact]
    public void No_source_file_outgrows_its_room()
    {
        var large = Directory.EnumerateFiles(Repository.Root, "*.cs", SearchOption.AllDirectories)
            .Where(f => !f.Contains("/obj/", StringComparison.Ordinal) && !f.Contains("/bin/", StringComparison.Ordinal))
            .Select(f => (File: Path.GetRelativePath(Repository.Root, f), Lines: File.ReadLines(f).Count()))
            .Where(f => f.Lines > MaxLines)
            .Select(f => $"{f.File}: {f.Lines} lines");

        Assert.Empty(large);
    }
}
