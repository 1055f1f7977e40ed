using System.Net;
using System.Net.Http.Headers;
using Sandbox.Abstractions;
using Sandbox.Gateway.Tests.Harness;
using Xunit;

namespace Sandbox.Gateway.Tests.Files;

/// <summary>Files are streamed: their size is nobody's memory.</summary>
public sealed class FileTests : IAsyncLifetime
{
    private const long Large = 256L << 20;
    private Facade _facade = null!;

    public async ValueTask InitializeAsync() => _facade = await Facade.StartAsync();

    public ValueTask DisposeAsync() => _facade.DisposeAsync();

    [Fact]
    public async Task A_large_download_is_whole_and_takes_no_memory_of_its_size()
    {
        var session = _facade.NewSession();
        _facade.World.FileSizes["/big"] = Large + 7;
        using var answer = await _facade.Http.GetAsync($"/v1/sessions/{session}/files/content?path=/big", HttpCompletionOption.ResponseHeadersRead);
        await using var body = await answer.Content.ReadAsStreamAsync();

        Assert.Equal(Large + 7, answer.Content.Headers.ContentLength);
        var buffer = new byte[1 << 20];
        long offset = 0;
        long most = 0;
        for (int n; (n = await body.ReadAsync(buffer)) > 0;)
        {
            Assert.Equal(FakeWorld.Pattern(offset), buffer[0]);
            Assert.Equal(FakeWorld.Pattern(offset + n - 1), buffer[n - 1]);
            offset += n;
            most = Math.Max(most, GC.GetTotalMemory(forceFullCollection: false));
        }

        Assert.Equal(Large + 7, offset);
        Assert.InRange(most, 0, Large / 2);

        // The last byte is with the client before the server lets the file go.
        await Eventually.UntilAsync(() => _facade.World.Closed.ContainsKey("/big"));
    }

    [Fact]
    public async Task A_large_upload_is_streamed_and_committed()
    {
        var session = _facade.NewSession();
        using var content = new StreamContent(new PatternStream(Large / 4));

        using var answer = await _facade.Http.PutAsync($"/v1/sessions/{session}/files/content?path=in&mode=0600", content);

        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        Assert.Equal(Large / 4, _facade.World.UploadedBytes);
        Assert.True(_facade.World.Closed["in"]);
        Assert.Equal(Convert.ToInt32("600", 8), ((OpenWriteRequest)_facade.World.Noted("open-write")!).Mode);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_upload_over_the_limit_is_refused_and_not_committed(bool saysSo)
    {
        await using var facade = await Facade.StartAsync(new GatewayOptions { Development = true, MaxUploadBytes = 1 << 20 });
        var session = facade.NewSession();
        using var content = new StreamContent(new PatternStream(2 << 20));
        if (saysSo)
        {
            content.Headers.ContentLength = 2 << 20;
        }

        using var answer = await facade.Http.PutAsync($"/v1/sessions/{session}/files/content?path=in", content);

        await Facade.ProblemAsync(answer, HttpStatusCode.RequestEntityTooLarge, "tooLarge");
        Assert.False(facade.World.Closed.GetValueOrDefault("in"));
    }

    [Fact]
    public async Task An_upload_that_breaks_off_is_not_committed()
    {
        var session = _facade.NewSession();
        using var cut = new CancellationTokenSource();
        using var content = new StreamContent(new PatternStream(Large, at => cut.CancelAfter(at > 8 << 20 ? 0 : Timeout.Infinite)));

        await Assert.ThrowsAnyAsync<Exception>(() => _facade.Http.PutAsync($"/v1/sessions/{session}/files/content?path=in", content, cut.Token));

        await Eventually.UntilAsync(() => _facade.World.Closed.ContainsKey("in"));
        Assert.False(_facade.World.Closed["in"]);
    }

    [Theory]
    [InlineData("../../etc/passwd")]
    [InlineData("/etc/passwd")]
    [InlineData("a/../../b")]
    public async Task A_path_is_the_guests_affair_and_never_opened_here(string path)
    {
        var session = _facade.NewSession();

        using var answer = await _facade.Http.GetAsync($"/v1/sessions/{session}/files/content?path={Uri.EscapeDataString(path)}");

        await Facade.ProblemAsync(answer, HttpStatusCode.NotFound, "notFound");
        Assert.Equal(path, _facade.World.Noted("open"));
    }

    [Fact]
    public async Task What_a_guest_made_is_never_shown_as_a_page_of_ours()
    {
        var session = _facade.NewSession();
        _facade.World.FileSizes["x.html"] = 10;

        using var answer = await _facade.Http.SendAsync(new HttpRequestMessage(HttpMethod.Head, $"/v1/sessions/{session}/files/content?path=x.html"));

        Assert.Equal(10, answer.Content.Headers.ContentLength);
        Assert.Equal(new MediaTypeHeaderValue("application/octet-stream"), answer.Content.Headers.ContentType);
        Assert.Equal("nosniff", answer.Headers.GetValues("X-Content-Type-Options").Single());
        Assert.Equal("attachment", answer.Content.Headers.ContentDisposition?.DispositionType);
    }

    /// <summary>Bytes made as they are read.</summary>
    private sealed class PatternStream(long size, Action<long>? at = null) : Stream
    {
        private long _position;

        public override bool CanRead => true;

        public override bool CanSeek => false;

        public override bool CanWrite => false;

        public override long Length => throw new NotSupportedException();

        public override long Position { get => _position; set => throw new NotSupportedException(); }

        public override int Read(byte[] buffer, int offset, int count)
        {
            at?.Invoke(_position);
            var n = (int)Math.Min(count, size - _position);
            for (var i = 0; i < n; i++)
            {
                buffer[offset + i] = FakeWorld.Pattern(_position + i);
            }

            _position += n;
            return n;
        }

        public override void Flush()
        {
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
