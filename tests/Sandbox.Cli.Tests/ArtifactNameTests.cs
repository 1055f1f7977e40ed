using Sandbox.Cli.Runs;
using Xunit;

namespace Sandbox.Cli.Tests;

/// <summary>The guest chooses names; none of them may lead out of the directory its caller named.</summary>
public sealed class ArtifactNameTests : IDisposable
{
    private readonly string _root = Directory.CreateTempSubdirectory("sandbox-artifacts-").FullName;

    public void Dispose() => Directory.Delete(_root, recursive: true);

    [Theory]
    [InlineData("/home/user/work/plot.png", "plot.png")]
    [InlineData("/home/user/work/a/b/c.csv", "a/b/c.csv")]
    [InlineData("/home/user/work/ümläut €.txt", "ümläut €.txt")]
    [InlineData("/home/user/work/-rf", "-rf")]
    [InlineData("/home/user/work/..data", "..data")]
    public void A_plain_name_is_kept(string path, string expected) => Assert.Equal(expected, Artifacts.RelativeName("/home/user/work", path));

    [Theory]
    [InlineData("/etc/passwd")]
    [InlineData("/home/user/workshop/x")]
    [InlineData("/home/user/work")]
    [InlineData("/home/user/work/")]
    [InlineData("/home/user/work/../../../etc/passwd")]
    [InlineData("/home/user/work/a/../../x")]
    [InlineData("/home/user/work/./x")]
    [InlineData("/home/user/work//etc/passwd")]
    [InlineData("/home/user/work/a\0b")]
    [InlineData("/home/user/work/a\nb")]
    [InlineData("/home/user/work/\u001b[2Jx")]
    [InlineData("/home/user/work/\u202egnp.exe")]
    [InlineData("/home/user/work/a\\b")]
    [InlineData("/home/user/work/bad\uFFFDbytes")]
    [InlineData("relative")]
    [InlineData("")]
    public void A_name_that_could_do_harm_is_refused(string path) => Assert.Null(Artifacts.RelativeName("/home/user/work", path));

    [Fact]
    public void A_name_beyond_what_file_systems_take_is_refused()
    {
        Assert.Null(Artifacts.RelativeName("/w", "/w/" + new string('x', 201)));
        Assert.Null(Artifacts.RelativeName("/w", "/w/" + string.Join('/', Enumerable.Repeat("0123456789", 100))));
    }

    [Fact]
    public void Directories_on_the_way_are_made()
    {
        var place = Artifacts.PlaceFor(_root, "a/b/c.txt");

        Assert.Equal(Path.Combine(_root, "a", "b", "c.txt"), place);
        Assert.True(Directory.Exists(Path.Combine(_root, "a", "b")));
    }

    [Fact]
    public void A_link_on_the_way_is_not_followed()
    {
        var outside = Directory.CreateTempSubdirectory("sandbox-outside-").FullName;
        try
        {
            Directory.CreateSymbolicLink(Path.Combine(_root, "a"), outside);

            Assert.Throws<UserException>(() => Artifacts.PlaceFor(_root, "a/b/c.txt"));
            Assert.Empty(Directory.EnumerateFileSystemEntries(outside));
        }
        finally
        {
            Directory.Delete(outside);
        }
    }

    [Fact]
    public void A_file_on_the_way_is_an_error_and_not_replaced()
    {
        File.WriteAllText(Path.Combine(_root, "a"), "mine");

        Assert.Throws<UserException>(() => Artifacts.PlaceFor(_root, "a/b"));
        Assert.Equal("mine", File.ReadAllText(Path.Combine(_root, "a")));
    }
}
