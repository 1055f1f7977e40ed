using Amazon.Runtime;
using Amazon.S3;
using Sandbox.Snapshots.Blobs;
using Xunit;

namespace Sandbox.Snapshots.Tests;

public sealed class S3BlobStoreTests(MotoServer server) : BlobStoreConformance, IClassFixture<MotoServer>, IAsyncLifetime
{
    private AmazonS3Client? _client;
    private S3BlobStore? _store;

    protected override IBlobStore Store => _store!;

    public async ValueTask InitializeAsync()
    {
        var url = await server.StartAsync();
        Assert.SkipWhen(url is null, "There is no S3 server here (moto_server is not installed, or does not start).");
        _client = Client(url!);
        var bucket = "bucket-" + Guid.NewGuid().ToString("n");
        await _client.PutBucketAsync(bucket);
        _store = new S3BlobStore(_client, bucket, "some/prefix");
    }

    public ValueTask DisposeAsync()
    {
        _client?.Dispose();
        return ValueTask.CompletedTask;
    }

    [Fact]
    public async Task A_list_of_more_than_a_page_is_whole()
    {
        for (var i = 0; i < 1005; i++)
        {
            await Store.PutAsync($"many/{i}", new byte[1], TestContext.Current.CancellationToken);
        }

        Assert.Equal(1005, await Store.ListAsync("many", TestContext.Current.CancellationToken).CountAsync(TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_missing_bucket_is_a_fault_and_not_a_missing_blob()
    {
        var store = new S3BlobStore(_client!, "no-such-bucket", "");

        Assert.Equal(SnapshotErrorKind.Unavailable, (await Assert.ThrowsAsync<SnapshotException>(() => store.ReadAsync("a", 0, null, TestContext.Current.CancellationToken))).Kind);
        Assert.Equal(SnapshotErrorKind.Unavailable, (await Assert.ThrowsAsync<SnapshotException>(() => store.PutAsync("a", new byte[1], TestContext.Current.CancellationToken))).Kind);
    }

    [Fact]
    public async Task A_server_that_is_away_is_a_clear_error()
    {
        using var client = Client("http://127.0.0.1:9");
        var store = new S3BlobStore(client, "bucket", "");

        var error = await Assert.ThrowsAsync<SnapshotException>(() => store.PutAsync("a", new byte[1], TestContext.Current.CancellationToken));

        Assert.Equal(SnapshotErrorKind.Unavailable, error.Kind);
        Assert.Contains("bucket bucket", error.Message, StringComparison.Ordinal);
    }

    private static AmazonS3Client Client(string url) => new(
        new BasicAWSCredentials("test", "test"),
        new AmazonS3Config
        {
            ServiceURL = url,
            ForcePathStyle = true,
            AuthenticationRegion = "us-east-1",
            MaxErrorRetry = 1,
            RequestChecksumCalculation = RequestChecksumCalculation.WHEN_REQUIRED,
            ResponseChecksumValidation = ResponseChecksumValidation.WHEN_REQUIRED,
        });
}
