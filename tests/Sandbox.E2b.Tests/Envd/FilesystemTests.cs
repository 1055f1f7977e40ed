using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;
using Sandbox.E2b.Envd.Files;
using Sandbox.E2b.Envd.Filesystem;
using Sandbox.E2b.Tests.Harness;
using Xunit;

namespace Sandbox.E2b.Tests.Envd;

/// <summary>Files by Connect-RPC and over REST.</summary>
public sealed class FilesystemTests : IAsyncLifetime
{
    private E2bServer _server = null!;

    public async ValueTask InitializeAsync() => _server = await E2bServer.StartAsync(TimeSpan.FromSeconds(1));

    public ValueTask DisposeAsync() => _server.DisposeAsync();

    [Fact]
    public async Task A_listing_has_all_pages()
    {
        foreach (var i in Enumerable.Range(0, 5))
        {
            _server.Sandbox.Files[$"/d/{i}"] = [1, 2];
        }

        var (_, list) = await _server.CallAsync("filesystem.Filesystem/ListDir", """{"path":"/d"}""");

        Assert.Equal(["0", "1", "2", "3", "4"], list["entries"]!.AsArray().Select(e => (string?)e!["name"]));
        Assert.Equal(
            """{"name":"0","type":"FILE_TYPE_FILE","path":"/d/0","size":"2","mode":420,"permissions":"-rw-r--r--","owner":"user","group":"user","modifiedTime":"0001-01-01T00:00:00Z"}""",
            list["entries"]![0]!.ToJsonString());
    }

    [Theory]
    [InlineData("Stat", """{"path":"/none"}""", 404, "not_found")]
    [InlineData("MakeDir", """{"path":"/home/user/"}""", 409, "already_exists")]
    [InlineData("MakeDir", """{"path":"/file"}""", 400, "invalid_argument")]
    [InlineData("Move", """{"source":"/none","destination":"/x"}""", 404, "not_found")]
    [InlineData("GetWatcherEvents", """{"watcherId":"nonsense"}""", 404, "not_found")]
    public async Task Errors_are_the_ones_that_the_sdk_looks_for(string procedure, string body, int status, string code)
    {
        _server.Sandbox.Files["/file"] = [];
        var (got, error) = await _server.CallAsync("filesystem.Filesystem/" + procedure, body);
        Assert.Equal((status, code), (got, (string?)error["code"]));
    }

    [Fact]
    public async Task What_is_not_there_is_as_good_as_removed() => Assert.Equal(200, (await _server.CallAsync("filesystem.Filesystem/Remove", """{"path":"/none"}""")).Status);

    [Fact]
    public async Task A_watch_says_what_changed_relative_to_its_directory()
    {
        _server.Sandbox.Directories.Add("/d");
        _server.Sandbox.Files["/d/sub/new"] = [7];
        _server.Sandbox.Changes.Enqueue(new FileEventPage([new FileEvent(FileChange.Created, "/d/sub/new"), new FileEvent(FileChange.Removed, "/d/old")], 0, Closed: true));

        var all = await _server.AllAsync("filesystem.Filesystem/WatchDir", """{"path":"/d/","includeEntry":true,"recursive":true}""");

        Assert.Equal("""{"start":{}}""", all[0].ToJsonString());
        Assert.Equal(("sub/new", "EVENT_TYPE_CREATE", "1"), ((string?)all[1]["filesystem"]!["name"], (string?)all[1]["filesystem"]!["type"], (string?)all[1]["filesystem"]!["entry"]!["size"]));
        Assert.Equal("""{"filesystem":{"name":"old","type":"EVENT_TYPE_REMOVE"}}""", all[2].ToJsonString());
        Assert.Equal("{}", all[3].ToJsonString());
        Assert.Equal(["unwatch watch-1"], _server.Sandbox.Calls);
    }

    [Fact]
    public async Task A_watcher_is_read_in_pieces()
    {
        var (_, made) = await _server.CallAsync("filesystem.Filesystem/CreateWatcher", """{"path":"/home/user"}""");
        _server.Sandbox.Changes.Enqueue(new FileEventPage([new FileEvent(FileChange.Written, "/home/user/a")], 0, false));
        var id = made["watcherId"]!.ToJsonString();
        var (_, events) = await _server.CallAsync("filesystem.Filesystem/GetWatcherEvents", $$"""{"watcherId":{{id}}}""");
        Assert.Equal("""{"events":[{"name":"a","type":"EVENT_TYPE_WRITE"}]}""", events.ToJsonString());
        Assert.Equal(200, (await _server.CallAsync("filesystem.Filesystem/RemoveWatcher", $$"""{"watcherId":{{id}}}""")).Status);
    }

    [Fact]
    public async Task Files_are_uploaded_in_every_way_and_downloaded()
    {
        using var form = new MultipartFormDataContent { { new StringContent("one"), "file", "/a b/é.txt" }, { new StringContent("two"), "file", "rel.txt" } };
        using var many = await _server.Http.PostAsync("/files", form);
        Assert.Equal("""[{"name":"é.txt","type":"file","path":"/a b/é.txt"},{"name":"rel.txt","type":"file","path":"/home/user/rel.txt"}]""", Plain(await many.Content.ReadFromJsonAsync<JsonNode>()));

        using var packed = new MemoryStream();
        await using (var gzip = new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true))
        {
            await gzip.WriteAsync(new byte[700_000]);
        }

        using var octets = new ByteArrayContent(packed.ToArray());
        octets.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
        octets.Headers.ContentEncoding.Add("gzip");
        octets.Headers.Add("X-Metadata-Author", "me");
        using var one = await _server.Http.PostAsync("/files?path=./z.bin&username=user", octets);
        Assert.Equal("""[{"name":"z.bin","type":"file","path":"/home/user/z.bin","metadata":{"author":"me"}}]""", Plain(await one.Content.ReadFromJsonAsync<JsonNode>()));

        Assert.Equal("one", await _server.Http.GetStringAsync("/files?path=/a%20b/%C3%A9.txt"));
        using var small = await _server.Http.SendAsync(new HttpRequestMessage(HttpMethod.Get, "/files?path=z.bin") { Headers = { AcceptEncoding = { new StringWithQualityHeaderValue("gzip") } } });
        Assert.Equal(["gzip"], small.Content.Headers.ContentEncoding);
        Assert.InRange((await small.Content.ReadAsByteArrayAsync()).Length, 1, 100_000);
    }

    [Fact]
    public async Task Bad_uploads_are_refused_and_leave_nothing()
    {
        async Task<HttpStatusCode> PostAsync(string path, HttpContent content, string type)
        {
            content.Headers.ContentType = MediaTypeHeaderValue.Parse(type);
            using var answer = await _server.Http.PostAsync("/files" + path, content);
            return answer.StatusCode;
        }

        Assert.Equal(HttpStatusCode.BadRequest, await PostAsync("", new StringContent("x"), "application/octet-stream"));
        Assert.Equal(HttpStatusCode.BadRequest, await PostAsync("?path=/x", new StringContent("x"), "text/plain"));
        Assert.Equal(HttpStatusCode.BadRequest, await PostAsync("?path=/x", new StringContent("no parts here"), "multipart/form-data; boundary=b"));
        Assert.Equal(HttpStatusCode.RequestEntityTooLarge, await PostAsync("?path=/x", new ByteArrayContent(new byte[(4 << 20) + 1]), "application/octet-stream"));
        using var lie = new StringContent("this is no gzip");
        lie.Headers.ContentEncoding.Add("gzip");
        Assert.Equal(HttpStatusCode.BadRequest, await PostAsync("?path=/x", lie, "application/octet-stream"));
        Assert.Empty(_server.Sandbox.Files);
        Assert.Equal(HttpStatusCode.NotFound, (await _server.Http.GetAsync("/files?path=/x")).StatusCode);
    }

    [Fact]
    public async Task Files_are_composed_and_their_sources_removed()
    {
        _server.Sandbox.Files["/1"] = "one "u8.ToArray();
        _server.Sandbox.Files["/2"] = "two"u8.ToArray();
        using var answer = await _server.Http.PostAsync("/files/compose", new StringContent("""{"source_paths":["/1","/2"],"destination":"/3"}""", Encoding.UTF8, "application/json"));
        Assert.Equal("""{"name":"3","type":"file","path":"/3"}""", Plain(await answer.Content.ReadFromJsonAsync<JsonNode>()));
        Assert.Equal(("/3", "one two"), (Assert.Single(_server.Sandbox.Files).Key, Encoding.UTF8.GetString(_server.Sandbox.Files["/3"])));
    }

    [Fact]
    public async Task Without_the_token_there_is_nothing()
    {
        _server.Http.DefaultRequestHeaders.Remove("X-Access-Token");
        Assert.Equal(HttpStatusCode.Unauthorized, (await _server.Http.GetAsync("/files?path=/x")).StatusCode);
    }

    [Theory]
    [InlineData("./a//b/./c", "a/b/c")]
    [InlineData(".", "~")]
    [InlineData("/", "/")]
    [InlineData("/x/../y/", "/x/../y")]
    public void Paths_lose_what_means_nothing(string path, string plain) => Assert.Equal(plain, GuestPath.Plain(path));

    [Theory]
    [InlineData(FileKind.Directory, 0x3ff, "drwxrwxrwt")]
    [InlineData(FileKind.File, 0x9ed, "-rwsr-xr-x")]
    [InlineData(FileKind.Symlink, 0x400, "l-----S---")]
    public void Permissions_are_as_ls_writes_them(FileKind kind, int mode, string text) => Assert.Equal(text, Entries.Permissions(kind, mode));

    private static string Plain(JsonNode? json) => System.Text.RegularExpressions.Regex.Unescape(json!.ToJsonString()).Replace(",\"metadata\":null", "", StringComparison.Ordinal);
}
