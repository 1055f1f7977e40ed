using System.Security.Cryptography;
using Sandbox.Snapshots.Artifacts;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Keys;
using Xunit;

namespace Sandbox.Snapshots.Tests;

public sealed class ArtifactStoreTests : IDisposable
{
    private readonly TempDirectory _directory = new();
    private readonly FileBlobStore _blobs;
    private readonly ArtifactStore _store;

    public ArtifactStoreTests()
    {
        _blobs = new FileBlobStore(_directory.Path);
        _store = new ArtifactStore(_blobs, new MasterKeyProvider(new byte[32]));
    }

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(ArtifactStore.ChunkBytes)]
    [InlineData((3 * ArtifactStore.ChunkBytes) + 5)]
    public async Task What_is_put_can_be_read_chunk_by_chunk(int size)
    {
        var data = await PutAsync("acme", "ses_1", "art_1", size);
        var info = await _store.FindAsync("acme", "ses_1", "art_1", default);
        Assert.Equal(("a.png", "image/png", (long)size), (info!.Name, info.MimeType, info.Size));
        using var read = new MemoryStream();
        for (long offset = 0; offset < size; offset += ArtifactStore.ChunkBytes)
        {
            read.Write(await _store.ReadAsync("acme", "ses_1", "art_1", offset, default));
        }

        Assert.Equal(data, read.ToArray());
        await Assert.ThrowsAsync<SnapshotException>(() => PutAsync("acme", "ses_1", "art_1", 1));
    }

    [Fact]
    public async Task Nothing_is_readable_as_another_or_after_a_change()
    {
        var data = await PutAsync("acme", "ses_1", "art_1", 1000);
        Assert.Null(await _store.FindAsync("other", "ses_1", "art_1", default));
        Assert.Null(await _store.FindAsync("acme", "ses_2", "art_1", default));
        Assert.Null(await _store.ReadAsync("acme", "ses_1", "art_2", 0, default));

        var file = Directory.GetFiles(_directory.Path, "art_1", SearchOption.AllDirectories).Single();
        var bytes = await File.ReadAllBytesAsync(file);
        Assert.False(bytes.AsSpan().IndexOf(data.AsSpan(0, 16)) >= 0, "It lies there in the clear.");
        File.Copy(file, Path.Combine(Path.GetDirectoryName(file)!, "art_2"));
        Assert.Equal(SnapshotErrorKind.Corrupt, (await Assert.ThrowsAsync<SnapshotException>(() => _store.FindAsync("acme", "ses_1", "art_2", default))).Kind);
        bytes[^1] ^= 1;
        await File.WriteAllBytesAsync(file, bytes);
        Assert.Equal(SnapshotErrorKind.Corrupt, (await Assert.ThrowsAsync<SnapshotException>(() => _store.ReadAsync("acme", "ses_1", "art_1", 0, default))).Kind);
    }

    [Fact]
    public async Task They_go_with_their_session()
    {
        await PutAsync("acme", "ses_1", "art_1", 10);
        await PutAsync("acme", "ses_2", "art_1", 10);
        await _store.DeleteSessionAsync("acme", "ses_1", default);
        await _store.DeleteSessionAsync("acme", "ses_1", default);
        Assert.Null(await _store.FindAsync("acme", "ses_1", "art_1", default));
        Assert.NotNull(await _store.FindAsync("acme", "ses_2", "art_1", default));
    }

    [Theory]
    [InlineData("/home/user/plot 1.png", "plot 1.png")]
    [InlineData("/x/a\"b\r\n;\u202e.exe", "a_b____.exe")]
    [InlineData("/x/...", "artifact")]
    public void Names_for_downloads_are_harmless(string path, string name) => Assert.Equal(name, ArtifactInfo.NameOf(path));

    private async Task<byte[]> PutAsync(string tenant, string session, string id, int size)
    {
        var data = RandomNumberGenerator.GetBytes(size);
        await _store.PutAsync(tenant, session, id, new ArtifactInfo("a.png", "image/png", size, Convert.ToHexStringLower(SHA256.HashData(data))), data, default);
        return data;
    }
}
