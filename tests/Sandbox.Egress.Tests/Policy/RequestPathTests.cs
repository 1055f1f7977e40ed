using CsCheck;
using Sandbox.Egress.Policy;
using Xunit;

namespace Sandbox.Egress.Tests.Policy;

public sealed class RequestPathTests
{
    [Theory]
    [InlineData("/", "/")]
    [InlineData("/simple/", "/simple/")]
    [InlineData("//simple///x", "/simple/x")]
    [InlineData("/a/./b/../c", "/a/c")]
    [InlineData("/a/%2e%2E/b", "/b")]
    [InlineData("/../../etc", "/etc")]
    [InlineData("/a/..", "/")]
    [InlineData("/a/b/.", "/a/b/")]
    [InlineData("/%73imple", "/simple")]
    [InlineData("/caf%C3%A9", "/café")]
    [InlineData("/100%25", "/100%")]
    [InlineData("*", "*")]
    public void One_path_has_one_form(string path, string expected) => Assert.Equal(expected, RequestPaths.Normalise(path));

    [Theory]
    [InlineData("/a%2Fb")]
    [InlineData("/a%5cb")]
    [InlineData("/a\\b")]
    [InlineData("/a%00")]
    [InlineData("/a%0d%0a")]
    [InlineData("/%252e%252e/x")]
    [InlineData("/a/..;/b")]
    [InlineData("/%ff")]
    [InlineData("/%zz")]
    [InlineData("/%2")]
    [InlineData("/a#b")]
    [InlineData("relative")]
    [InlineData("")]
    public void What_servers_disagree_on_has_none(string path) => Assert.Null(RequestPaths.Normalise(path));

    [Fact]
    public void The_form_holds_no_dots_and_is_its_own_form() =>
        Gen.OneOf("/", "//", ".", "..", "a", "%2e", "%2E%2e", "b;x", "%41", "..;").List[1, 12].Select(parts => "/" + string.Concat(parts)).Sample(path =>
        {
            var once = RequestPaths.Normalise(path);
            return once is null
                || (!once.Split('/').Contains("..") && !once.Split('/').Contains(".") && !once.Contains("//", StringComparison.Ordinal) && RequestPaths.Normalise(once) == once);
        });
}
