using System.Security.Cryptography;
using Sandbox.Snapshots.Blobs;
using Xunit;

namespace Sandbox.Snapshots.Tests;

/// <summary>What every blob store must do. One class below each store there is.</summary>
public abstract class BlobStoreConformance
{
    protected abstract IBlobStore Store { get; }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(20 << 20)]
    public async Task What_is_put_is_read(int length)
    {
        var data = RandomNumberGenerator.GetBytes(length);

        await Store.PutAsync("a/packs/one", data, Token);

        Assert.Equal(data, await Store.ReadAsync("a/packs/one", 0, null, Token));
    }

    [Theory]
    [InlineData(0, 3, "abc")]
    [InlineData(2, 3, "cde")]
    [InlineData(4, 9, "ef")]
    [InlineData(6, 1, "")]
    [InlineData(9, 1, "")]
    public async Task A_part_is_read_up_to_the_end(long offset, int length, string expected)
    {
        await Store.PutAsync("a/part", "abcdef"u8.ToArray(), Token);

        Assert.Equal(expected, System.Text.Encoding.UTF8.GetString((await Store.ReadAsync("a/part", offset, length, Token))!));
    }

    [Fact]
    public async Task What_is_not_there_reads_as_null_and_may_be_deleted()
    {
        await Store.DeleteAsync("a/none", Token);

        Assert.Null(await Store.ReadAsync("a/none", 0, null, Token));
        Assert.Empty(await Store.ListAsync("nowhere", Token).ToListAsync(Token));
    }

    [Fact]
    public async Task A_blob_is_never_overwritten()
    {
        await Store.PutAsync("a/once", "first"u8.ToArray(), Token);

        var error = await Assert.ThrowsAsync<SnapshotException>(() => Store.PutAsync("a/once", "second"u8.ToArray(), Token));

        Assert.Equal(SnapshotErrorKind.AlreadyExists, error.Kind);
        Assert.Equal("first"u8.ToArray(), await Store.ReadAsync("a/once", 0, null, Token));
    }

    [Fact]
    public async Task Of_many_writers_of_one_name_just_one_wins()
    {
        var results = await Task.WhenAll(Enumerable.Range(0, 16).Select(i => Task.Run(async () =>
        {
            try
            {
                await Store.PutAsync("a/race", new byte[] { (byte)i }, Token);
                return i;
            }
            catch (SnapshotException e) when (e.Kind == SnapshotErrorKind.AlreadyExists)
            {
                return -1;
            }
        })));

        var winner = Assert.Single(results, r => r >= 0);
        Assert.Equal([(byte)winner], (await Store.ReadAsync("a/race", 0, null, Token))!);
    }

    [Fact]
    public async Task A_list_has_the_blobs_of_its_folder_with_length_and_time()
    {
        await Store.PutAsync("a/packs/one", new byte[3], Token);
        await Store.PutAsync("a/packs/two", new byte[5], Token);
        await Store.PutAsync("a/packsother", new byte[7], Token);
        await Store.PutAsync("b/packs/one", new byte[9], Token);
        await Store.DeleteAsync("a/packs/two", Token);

        var only = Assert.Single(await Store.ListAsync("a/packs", Token).ToListAsync(Token));
        Assert.Equal(("a/packs/one", 3L), (only.Name, only.Length));
        Assert.InRange(only.WrittenAt, DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddHours(1));
    }

    [Theory]
    [InlineData("")]
    [InlineData("/etc/passwd")]
    [InlineData("a/../../b")]
    [InlineData("a//b")]
    [InlineData(".partial/x")]
    [InlineData("a/b\n")]
    public async Task A_name_that_climbs_or_hides_is_refused(string name) =>
        await Assert.ThrowsAsync<ArgumentException>(() => Store.PutAsync(name, new byte[1], Token));
}
