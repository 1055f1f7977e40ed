using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Artifacts;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Sandbox.Snapshots.Artifacts;
using Sandbox.Snapshots.Blobs;
using Sandbox.Snapshots.Keys;
using Xunit;
using ErrorCode = Sandbox.Guest.Protocol.ErrorCode;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;
using Request = Sandbox.Guest.Protocol.Request;

namespace Sandbox.Grains.Tests.Artifacts;

/// <summary>What a host takes of what a guest, honest or not, says it has.</summary>
public sealed class ArtifactCollectorTests : IDisposable
{
    private static readonly string Session = SandboxIds.NewSession();
    private readonly DirectoryInfo _directory = Directory.CreateTempSubdirectory("artifacts-");
    private readonly LyingGuest _guest = new();
    private readonly ArtifactOptions _options = new();
    private readonly ArtifactStore _store;

    public ArtifactCollectorTests() => _store = new ArtifactStore(new FileBlobStore(_directory.FullName), new MasterKeyProvider(new byte[32]));

    public void Dispose() => _directory.Delete(recursive: true);

    [Fact]
    public async Task Small_files_come_with_their_event_and_others_are_stored()
    {
        var large = RandomNumberGenerator.GetBytes((600 * 1024) + 7);
        _guest.Files["/w/small"] = new GuestFile("hello\n"u8.ToArray());
        _guest.Files["/w/large\n"] = new GuestFile(large);
        _guest.Files["/w/empty"] = new GuestFile([]);
        var (artifacts, notice) = await CollectAsync(["/w/small", "/w/large\n", "/w/empty", "/w/gone"]);
        Assert.Null(notice);
        Assert.Equal(("text/plain", Convert.ToBase64String("hello\n"u8), 6L), (artifacts[0].MimeType, artifacts[0].Inline, artifacts[0].Size));
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(large)), artifacts[1].Sha256);
        Assert.Equal(("/w/large\n", null), (artifacts[1].Path, artifacts[1].Inline));
        Assert.Equal(("", 0L), (artifacts[2].Inline, artifacts[2].Size));
        Assert.Contains("no such file", artifacts[3].Skipped);
        Assert.All(_guest.Users, u => Assert.Equal("user", u));
        Assert.Empty(_guest.Open);

        var entry = await _store.FindAsync("acme", Session, artifacts[1].Id!, default);
        Assert.Equal(("large_", (long)large.Length), (entry!.Name, entry.Size));
        Assert.Null(await _store.FindAsync("acme", SandboxIds.NewSession(), artifacts[1].Id!, default));
        Assert.Equal(large[^(large.Length % ArtifactStore.ChunkBytes)..], await _store.ReadAsync("acme", Session, artifacts[1].Id!, 2 * ArtifactStore.ChunkBytes, default));
    }

    [Fact]
    public async Task A_file_that_changes_meanwhile_is_read_again_once()
    {
        _guest.Files["/once"] = new GuestFile(new byte[10]) { ChangesAfterReads = 1 };
        _guest.Files["/always"] = new GuestFile(new byte[10]) { ChangesAfterReads = int.MaxValue };
        _guest.Files["/shorter"] = new GuestFile(new byte[10]) { Claimed = 20 };
        _guest.Files["/link"] = new GuestFile(new byte[10]) { Type = FileType.Symlink };
        var (artifacts, _) = await CollectAsync(["/once", "/always", "/shorter", "/link"]);
        Assert.NotNull(artifacts[0].Inline);
        Assert.All(artifacts[1..3], a => Assert.Equal("it changed while it was read", a.Skipped));
        Assert.Contains("no regular file", artifacts[3].Skipped);
        Assert.All(artifacts[1..], a => Assert.True(a is { Inline: null, Id: null, Sha256: null }));
    }

    [Fact]
    public async Task Limits_bound_files_bytes_and_names()
    {
        (_options.FileBytes, _options.TotalBytes, _options.Files, _options.InlineBytes, _options.InlineTotalBytes) = (1000, 1500, 4, 900, 1000);
        _guest.Files["/sparse"] = new GuestFile([]) { Claimed = 10UL << 30 };
        foreach (var name in new[] { "/a", "/b", "/c", "/d" })
        {
            _guest.Files[name] = new GuestFile(new byte[700]);
        }

        var (artifacts, notice) = await CollectAsync(["/sparse", "/a", "/b", "/c", "/d"], more: 999_996);
        Assert.Equal(4, artifacts.Count);
        Assert.Equal((10L << 30, 0), (artifacts[0].Size, _guest.ReadsOf("/sparse")));
        Assert.Contains("larger than the 1000 bytes", artifacts[0].Skipped);
        Assert.NotNull(artifacts[1].Inline);
        Assert.NotNull(artifacts[2].Id);
        Assert.Contains("more than 1500 bytes", artifacts[3].Skipped);
        Assert.StartsWith("999997 more files", notice);
    }

    [Fact]
    public async Task A_guest_that_does_not_answer_holds_the_exit_up_only_so_long()
    {
        _options.ReadTimeout = TimeSpan.FromMilliseconds(200);
        _guest.Files["/ok"] = new GuestFile("x"u8.ToArray());
        _guest.Files["/slow"] = new GuestFile(new byte[10]) { Silent = true };
        var (artifacts, _) = await CollectAsync(["/ok", "/slow", "/ok"]);
        Assert.NotNull(artifacts[0].Inline);
        Assert.All(artifacts[1..], a => Assert.Contains("took longer", a.Skipped));

        _guest.Gone = true;
        (artifacts, _) = await CollectAsync(["/ok"]);
        Assert.Contains("could not be asked", Assert.Single(artifacts).Skipped);
    }

    private async Task<(List<ArtifactData> Artifacts, string? Notice)> CollectAsync(string[] paths, uint more = 0)
    {
        using var collector = new ArtifactCollector(_store, _options, TimeProvider.System, NullLogger.Instance);
        var changed = new ChangedFiles { More = more };
        changed.Files.AddRange(paths.Select(p => new ChangedFile { Path = p, Size = 5 }));
        var events = await collector.CollectAsync(new ArtifactOwner(_guest, "acme", Session), "user", changed, CancellationToken.None);
        var notice = events.SingleOrDefault(e => e.Kind == OutputKind.Notice) is { Data: { } text } ? Encoding.UTF8.GetString(text) : null;
        return ([.. events.Where(e => e.Kind == OutputKind.Artifact).Select(e => JsonSerializer.Deserialize<ArtifactData>(e.Data, OutputJson.Options)!)], notice);
    }

    private sealed record GuestFile(byte[] Content)
    {
        public ulong? Claimed { get; init; }

        public FileType Type { get; init; } = FileType.Regular;

        public int ChangesAfterReads { get; set; }

        public bool Silent { get; init; }

        public long Modified { get; set; }
    }

    /// <summary>Answers as the agent does, but says of its files what the test wants.</summary>
    private sealed class LyingGuest : IGuest
    {
        private readonly List<string> _reads = [];
        private ulong _next;

        public Dictionary<string, GuestFile> Files { get; } = [];

        public Dictionary<ulong, string> Open { get; } = [];

        public List<string> Users { get; } = [];

        public bool Gone { get; set; }

        public Task<string> Closed { get; } = new TaskCompletionSource<string>().Task;

        public Task<IGuestPort> OpenPortAsync(int port, CancellationToken cancellationToken) => throw new NotSupportedException();

        public int ReadsOf(string path) => _reads.Count(r => r == path);

        public async Task<Response> RequestAsync(Request request, CancellationToken cancellationToken)
        {
            if (Gone)
            {
                throw new GuestUnavailableException("gone");
            }

            switch (request.OpCase)
            {
                case Request.OpOneofCase.Stat:
                    Users.Add(request.Stat.User);
                    var file = Find(request.Stat.Path);
                    return new Response { File = new FileInfo { Path = request.Stat.Path, Type = file.Type, Size = file.Claimed ?? (ulong)file.Content.Length, ModifiedUnixNanos = file.Modified } };
                case Request.OpOneofCase.OpenFile:
                    Users.Add(request.OpenFile.User);
                    Find(request.OpenFile.Path);
                    Open[++_next] = request.OpenFile.Path;
                    return new Response { Handle = new FileHandle { Handle = _next } };
                case Request.OpOneofCase.Read:
                    var path = Open[request.Read.Handle];
                    _reads.Add(path);
                    file = Find(path);
                    if (file.Silent)
                    {
                        await Task.Delay(Timeout.Infinite, cancellationToken);
                    }

                    if (file.ChangesAfterReads > 0)
                    {
                        file.ChangesAfterReads--;
                        file.Modified++;
                    }

                    var at = (int)Math.Min(request.Read.Offset, (ulong)file.Content.Length);
                    return new Response { Chunk = new Chunk { Data = ByteString.CopyFrom(file.Content.AsSpan(at, Math.Min((int)request.Read.Length, file.Content.Length - at))) } };
                default:
                    Open.Remove(request.CloseFile.Handle);
                    return new Response { Empty = new Empty() };
            }
        }

        public Task<IGuestExecution> StartExecutionAsync(StartExecution request, CancellationToken cancellationToken) => throw new NotSupportedException();

        public Task<IGuestWatch> WatchAsync(Watch request, CancellationToken cancellationToken) => throw new NotSupportedException();

        private GuestFile Find(string path) => Files.TryGetValue(path, out var file) ? file : throw new GuestException(new Error { Code = ErrorCode.NotFound, Message = "no such file" });
    }
}
