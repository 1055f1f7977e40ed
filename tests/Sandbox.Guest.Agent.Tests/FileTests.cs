using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;

namespace Sandbox.Guest.Agent.Tests;

public sealed class FileTests : IAsyncLifetime
{
    private readonly AgentFixture _agent = new();
    private GuestConnection _guest = null!;

    public async ValueTask InitializeAsync() => _guest = await _agent.ConnectAsync();

    public ValueTask DisposeAsync() => _agent.DisposeAsync();

    [Fact]
    public async Task A_file_is_written_beside_and_put_in_place_whole()
    {
        var path = At("deep/er/file.bin");
        var opened = await OpenAsync(path, new OpenWrite { MakeParents = true, Permissions = 0x1e8 });
        var data = new byte[300_000];
        Random.Shared.NextBytes(data);
        await WriteAsync(opened, 0, data.AsSpan(0, 200_000).ToArray());
        await WriteAsync(opened, 200_000, data.AsSpan(200_000).ToArray());
        Assert.False(File.Exists(path));
        await _guest.AskAsync(new Request { CloseFile = new CloseFile { Handle = opened, Commit = true } });
        Assert.Equal(data, await File.ReadAllBytesAsync(path));
        Assert.Equal((UnixFileMode)0x1e8, File.GetUnixFileMode(path));

        var reading = (await _guest.AskAsync(new Request { OpenFile = new OpenFile { Path = path, Read = new OpenRead() } })).Handle;
        Assert.Equal(300_000ul, reading.Info.Size);
        var chunk = (await _guest.AskAsync(new Request { Read = new ReadChunk { Handle = reading.Handle, Offset = 299_990, Length = 100 } })).Chunk;
        Assert.Equal(data[299_990..], chunk.Data.ToByteArray());
        Assert.True((await _guest.AskAsync(new Request { Read = new ReadChunk { Handle = reading.Handle, Offset = 300_000, Length = 100 } })).Chunk.Eof);

        // Replaced without asking for permissions, it keeps its own; given up, it keeps its content.
        await PutAsync(path, "new", commit: true);
        Assert.Equal((UnixFileMode)0x1e8, File.GetUnixFileMode(path));
        await PutAsync(path, "given up", commit: false);
        Assert.Equal("new", await File.ReadAllTextAsync(path));
        Assert.Single(Directory.GetFileSystemEntries(Path.GetDirectoryName(path)!));
    }

    [Fact]
    public async Task Appending_continues_and_links_are_written_through()
    {
        await PutAsync(At("a"), "one", commit: true);
        File.CreateSymbolicLink(At("link"), At("a"));
        await PutAsync(At("link"), "two", commit: true);
        Assert.NotNull(new System.IO.FileInfo(At("link")).LinkTarget);
        var handle = await OpenAsync(At("a"), new OpenWrite { Append = true });
        await WriteAsync(handle, 0, "+three"u8.ToArray());
        await Fails(ErrorCode.InvalidArgument, new Request { Write = new WriteChunk { Handle = handle, Offset = 99, Data = ByteString.CopyFromUtf8("x") } });
        await _guest.AskAsync(new Request { CloseFile = new CloseFile { Handle = handle, Commit = true } });
        Assert.Equal("two+three", await File.ReadAllTextAsync(At("a")));
    }

    [Fact]
    public async Task What_is_no_regular_file_is_refused_without_waiting()
    {
        Assert.Equal(0, (await _guest.RunAsync(Starting.Command("mkfifo", At("pipe")))).Exited.ExitCode);
        await Fails(ErrorCode.InvalidArgument, Read(At("pipe")));
        await Fails(ErrorCode.InvalidArgument, Read("/dev/zero"));
        await Fails(ErrorCode.IsADirectory, Read("/usr"));
        await Fails(ErrorCode.NotFound, Read("/no/such"));
        await Fails(ErrorCode.InvalidArgument, new Request { OpenFile = new OpenFile { Path = At("pipe"), Write = new OpenWrite() } });
        File.CreateSymbolicLink(At("loop"), At("loop"));
        await Fails(ErrorCode.InvalidArgument, Read(At("loop")));
        Assert.Equal(FileType.Other, (await StatAsync(At("pipe"))).Type);
    }

    [Fact]
    public async Task The_users_permissions_apply()
    {
        Assert.SkipUnless(Environment.IsPrivilegedProcess, "Only root's agent serves other users.");
        var user = (await _guest.RunAsync(Starting.Command("id", "-u"))).Stdout.Trim();
        Assert.SkipUnless(user != "0", "This machine has no ordinary default user.");
        await Fails(ErrorCode.PermissionDenied, Read("/etc/shadow"));
        await Fails(ErrorCode.PermissionDenied, new Request { OpenFile = new OpenFile { Path = "/etc/hostname", Write = new OpenWrite() } });
        await Fails(ErrorCode.PermissionDenied, new Request { Mkdir = new MakeDirectory { Path = "/etc/sbx-test" } });
        await PutAsync(At("mine"), "x", commit: true);
        Assert.Equal(user, (await StatAsync(At("mine"))).Uid.ToString());

        // A directory swapped for a link before the commit does not lend the agent's own rights.
        Directory.CreateDirectory(At("dir"));
        File.SetUnixFileMode(At("dir"), (UnixFileMode)0x1ff);
        var handle = await OpenAsync(At("dir/passwd-sbx-test"), new OpenWrite());
        Directory.Move(At("dir"), At("moved"));
        File.CreateSymbolicLink(At("dir"), "/etc");
        await Assert.ThrowsAsync<GuestException>(() => _guest.AskAsync(new Request { CloseFile = new CloseFile { Handle = handle, Commit = true } }));
        Assert.False(File.Exists("/etc/passwd-sbx-test"));
    }

    [Fact]
    public async Task Listing_pages_through_any_directory_in_byte_order()
    {
        Directory.CreateDirectory(At("d/sub"));
        var names = Enumerable.Range(0, 2500).Select(i => $"d/f{i:x}").Concat(["d/sub", "d/sub/x", "d/sub-y", "d/new\nline", "d/ünï"]).Select(At).Order(StringComparer.Ordinal).ToList();
        foreach (var name in names.Where(n => !n.EndsWith("sub", StringComparison.Ordinal)))
        {
            await File.WriteAllTextAsync(name, "");
        }

        File.SetUnixFileMode(At("d"), (UnixFileMode)0x1ff);
        File.SetUnixFileMode(At("d/sub"), (UnixFileMode)0x1ff);
        await _guest.RunAsync(Starting.Shell($"touch $'{At("d")}/bad\\xff'; ln -s $'\\xff\\xff' {At("d")}/zz-bad-link"));
        names.Add(At("d/zz-bad-link"));
        names.Sort(StringComparer.Ordinal);
        var found = new List<string>();
        for (FileList page = new() { More = true }; page.More;)
        {
            page = (await _guest.AskAsync(new Request { List = new ListDirectory { Path = At("d"), Depth = 2, After = found.LastOrDefault() ?? "" } })).Files;
            found.AddRange(page.Entries.Select(e => e.Path));
        }

        Assert.Equal(names, found);

        // Also what cannot be named can be removed with its directory.
        await Fails(ErrorCode.NotEmpty, new Request { Remove = new RemovePath { Path = At("d") } });
        await Assert.ThrowsAsync<GuestException>(() => _guest.AskAsync(new Request { List = new ListDirectory { Path = At("nothing") } }));
        await _guest.AskAsync(new Request { Remove = new RemovePath { Path = At("d"), Recursive = true } });
        Assert.False(Directory.Exists(At("d")));
    }

    [Fact]
    public async Task Directories_are_made_and_files_moved_as_asked()
    {
        await Fails(ErrorCode.NotFound, new Request { Mkdir = new MakeDirectory { Path = At("x/y") } });
        Assert.Equal(0x1c0u, (await _guest.AskAsync(new Request { Mkdir = new MakeDirectory { Path = At("x/y"), Parents = true, Mode = 0x1c0 } })).File.Mode);
        await Fails(ErrorCode.AlreadyExists, new Request { Mkdir = new MakeDirectory { Path = At("x/y") } });
        await _guest.AskAsync(new Request { Mkdir = new MakeDirectory { Path = At("x/y"), Parents = true } });
        await PutAsync(At("a"), "a", commit: true);
        await PutAsync(At("b"), "b", commit: true);
        await Fails(ErrorCode.AlreadyExists, new Request { Move = new MovePath { From = At("a"), To = At("b") } });
        await _guest.AskAsync(new Request { Move = new MovePath { From = At("a"), To = At("b"), Overwrite = true } });
        Assert.Equal("a", await File.ReadAllTextAsync(At("b")));
    }

    [Fact]
    public async Task A_watch_tells_of_changes_below_new_directories_too()
    {
        await using var watch = await _guest.WatchAsync(new Watch { Path = _agent.Folder, Recursive = true }, CancellationToken.None);
        Directory.CreateDirectory(At("new"));
        using var deadline = new CancellationTokenSource(AgentFixture.Patience);
        var step = 0;
        await foreach (var e in watch.Events.WithCancellation(deadline.Token))
        {
            if (step == 0 && e.Kind == WatchEvent.Types.Kind.Created && e.Path == At("new"))
            {
                step = 1;
                await File.WriteAllTextAsync(At("new/file"), "x", deadline.Token);
            }
            else if (step == 1 && e.Kind == WatchEvent.Types.Kind.Written && e.Path == At("new/file"))
            {
                step = 2;
                File.Delete(At("new/file"));
            }
            else if (step == 2 && e.Kind == WatchEvent.Types.Kind.Removed && e.Path == At("new/file"))
            {
                return;
            }
        }
    }

    [Fact]
    public async Task A_watch_tells_what_was_in_a_new_directory_already_and_follows_one_that_is_moved()
    {
        await using var watch = await _guest.WatchAsync(new Watch { Path = _agent.Folder, Recursive = true }, CancellationToken.None);
        Directory.CreateDirectory(At("a/b/c"));
        await File.WriteAllTextAsync(At("a/b/c/early"), "x");
        await using var events = watch.Events.GetAsyncEnumerator();
        await UntilAsync(events, WatchEvent.Types.Kind.Created, At("a/b/c/early"));
        Directory.Move(At("a"), At("z"));
        await UntilAsync(events, WatchEvent.Types.Kind.Renamed, At("a"));
        await UntilAsync(events, WatchEvent.Types.Kind.Created, At("z"));
        await UntilAsync(events, WatchEvent.Types.Kind.Created, At("z/b/c/early"));
        await File.WriteAllTextAsync(At("z/b/c/late"), "x");
        await UntilAsync(events, WatchEvent.Types.Kind.Written, At("z/b/c/late"));
    }

    [Fact]
    public async Task A_watch_ends_with_the_removal_of_its_directory()
    {
        Directory.CreateDirectory(At("gone"));
        await using var watch = await _guest.WatchAsync(new Watch { Path = At("gone") }, CancellationToken.None);
        await using var events = watch.Events.GetAsyncEnumerator();
        Directory.Delete(At("gone"));
        await UntilAsync(events, WatchEvent.Types.Kind.Removed, At("gone"));
    }

    [Fact]
    public async Task Labels_are_kept_with_the_file_shown_with_it_and_replaced_with_it()
    {
        await LabelAsync(At("f"), new() { ["owner"] = "me", ["purpose"] = "a b c" });
        Assert.Equal(new Dictionary<string, string> { ["owner"] = "me", ["purpose"] = "a b c" }, await LabelsAsync(At("f")));
        var listed = (await _guest.AskAsync(new Request { List = new ListDirectory { Path = _agent.Folder } })).Files.Entries.Single(e => e.Path == At("f"));
        Assert.Equal("me", listed.Metadata["owner"]);
        await LabelAsync(At("f"), new() { ["other"] = "" });
        Assert.Equal(new Dictionary<string, string> { ["other"] = "" }, await LabelsAsync(At("f")));
        await PutAsync(At("f"), "x", commit: true);
        Assert.Empty(await LabelsAsync(At("f")));

        foreach (var bad in (OpenWrite[])[new() { Metadata = { ["ä"] = "x" } }, new() { Metadata = { ["a"] = "\n" } }, new() { Metadata = { ["a"] = new string('x', 4096) } }, new() { Append = true, Metadata = { ["a"] = "x" } }])
        {
            await Fails(ErrorCode.InvalidArgument, new Request { OpenFile = new OpenFile { Path = At("f"), Write = bad } });
        }
    }

    private async Task<Dictionary<string, string>> LabelsAsync(string path) => new((await StatAsync(path)).Metadata);

    private async Task LabelAsync(string path, Dictionary<string, string> labels)
    {
        var handle = await OpenAsync(path, new OpenWrite { Metadata = { labels } });
        await _guest.AskAsync(new Request { CloseFile = new CloseFile { Handle = handle, Commit = true } });
    }

    private static async Task UntilAsync(IAsyncEnumerator<WatchEvent> events, WatchEvent.Types.Kind kind, string path)
    {
        do
        {
            Assert.True(await events.MoveNextAsync().AsTask().WaitAsync(AgentFixture.Patience));
        }
        while (events.Current.Kind != kind || events.Current.Path != path);
    }

    private static Request Read(string path) => new() { OpenFile = new OpenFile { Path = path, Read = new OpenRead() } };

    private string At(string name) => Path.Combine(_agent.Folder, name);

    private async Task<Protocol.FileInfo> StatAsync(string path) => (await _guest.AskAsync(new Request { Stat = new StatPath { Path = path } })).File;

    private async Task<ulong> OpenAsync(string path, OpenWrite write) =>
        (await _guest.AskAsync(new Request { OpenFile = new OpenFile { Path = path, Write = write } })).Handle.Handle;

    private Task WriteAsync(ulong handle, ulong offset, byte[] data) =>
        _guest.AskAsync(new Request { Write = new WriteChunk { Handle = handle, Offset = offset, Data = ByteString.CopyFrom(data) } });

    private async Task PutAsync(string path, string text, bool commit)
    {
        var handle = await OpenAsync(path, new OpenWrite());
        await WriteAsync(handle, 0, System.Text.Encoding.UTF8.GetBytes(text));
        await _guest.AskAsync(new Request { CloseFile = new CloseFile { Handle = handle, Commit = commit } });
    }

    private async Task Fails(ErrorCode code, Request request) =>
        Assert.Equal(code, (await Assert.ThrowsAsync<GuestException>(() => _guest.AskAsync(request))).Code);
}
