using Sandbox.Snapshots.Blobs;
using Xunit;

namespace Sandbox.Snapshots.Tests;

public sealed class FileBlobStoreTests : BlobStoreConformance, IDisposable
{
    private readonly TempDirectory _directory = new();

    public FileBlobStoreTests() => Store = new FileBlobStore(_directory.Path);

    protected override IBlobStore Store { get; }

    public void Dispose() => _directory.Dispose();

    [Fact]
    public async Task A_cancelled_write_leaves_nothing()
    {
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Store.PutAsync("a/b", new byte[1 << 20], new CancellationToken(canceled: true)));

        Assert.Empty(Directory.EnumerateFiles(_directory.Path, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 }));
    }

    [Fact]
    public void A_store_removes_what_a_dead_writer_left_a_day_ago_and_nothing_younger()
    {
        var scratch = Path.Combine(_directory.Path, ".partial");
        File.WriteAllText(Path.Combine(scratch, "old"), "x");
        File.WriteAllText(Path.Combine(scratch, "young"), "x");
        File.SetLastWriteTimeUtc(Path.Combine(scratch, "old"), DateTime.UtcNow.AddDays(-2));

        _ = new FileBlobStore(_directory.Path);

        Assert.Equal(["young"], Directory.EnumerateFiles(scratch).Select(Path.GetFileName));
    }

    [Fact]
    public async Task What_it_writes_is_for_its_own_user_only()
    {
        await Store.PutAsync("a/b", new byte[1], TestContext.Current.CancellationToken);

        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(Path.Combine(_directory.Path, "a/b")));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(Path.Combine(_directory.Path, "a")));
    }

    [Fact]
    public async Task A_store_that_cannot_be_written_says_so()
    {
        // A file where a directory is needed: true for root as well.
        File.WriteAllText(Path.Combine(_directory.Path, "a"), "");

        var error = await Assert.ThrowsAsync<SnapshotException>(() => Store.PutAsync("a/b", new byte[1], TestContext.Current.CancellationToken));

        Assert.Equal(SnapshotErrorKind.Unavailable, error.Kind);
    }
}
