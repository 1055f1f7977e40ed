using System.Security.Cryptography;
using Sandbox.Conformance.Backends;
using Sandbox.Guest.Protocol;
using Xunit;

namespace Sandbox.Conformance.Suite;

/// <summary>Files, by calls from outside.</summary>
public sealed class FileTests(Subjects subjects) : ConformanceTest(subjects)
{
    [Theory, ClassData(typeof(Matrix))]
    public async Task A_file_comes_back_as_it_was_written_and_is_listed_moved_and_removed(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        var content = RandomNumberGenerator.GetBytes(1_500_000);

        await WriteAsync(vm, "files/a.bin", content);
        Assert.Equal(content, await ReadAsync(vm, "files/a.bin"));
        var stat = (await AskAsync(vm, new Request { Stat = new StatPath { Path = "files/a.bin" } })).File;
        Assert.Equal((content.Length, FileType.Regular), ((int)stat.Size, stat.Type));
        await AskAsync(vm, new Request { Mkdir = new MakeDirectory { Path = "files/sub", Parents = true } });
        await AskAsync(vm, new Request { Move = new MovePath { From = "files/a.bin", To = "files/sub/b.bin" } });
        var listed = (await AskAsync(vm, new Request { List = new ListDirectory { Path = "files", Depth = 3, Limit = 100 } })).Files.Entries.Select(e => e.Path[(e.Path.IndexOf("files", StringComparison.Ordinal))..]);
        Assert.Equal(["files/sub", "files/sub/b.bin"], listed);
        Assert.Equal(ErrorCode.NotFound, (await RefusedAsync(vm, new Request { Stat = new StatPath { Path = "files/a.bin" } })).Code);
        Assert.Equal(ErrorCode.NotEmpty, (await RefusedAsync(vm, new Request { Remove = new RemovePath { Path = "files/sub" } })).Code);
        await AskAsync(vm, new Request { Remove = new RemovePath { Path = "files", Recursive = true } });
        Assert.Equal(ErrorCode.NotFound, (await RefusedAsync(vm, new Request { List = new ListDirectory { Path = "files", Depth = 1, Limit = 10 } })).Code);
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task An_upload_that_is_given_up_leaves_no_file(string backend)
    {
        var subject = await SubjectAsync(backend);
        var vm = await subject.SharedAsync("shared", Ct);
        await WriteAsync(vm, "whole", "old"u8.ToArray());
        var handle = (await AskAsync(vm, new Request { OpenFile = new OpenFile { Path = "whole", Write = new OpenWrite() } })).Handle.Handle;
        await AskAsync(vm, new Request { Write = new WriteChunk { Handle = handle, Data = Google.Protobuf.ByteString.CopyFromUtf8("new") } });
        Assert.Equal("old"u8.ToArray(), await ReadAsync(vm, "whole"));
        await AskAsync(vm, new Request { CloseFile = new CloseFile { Handle = handle, Commit = false } });
        Assert.Equal("old"u8.ToArray(), await ReadAsync(vm, "whole"));
        Passed(subject);
    }

    [Theory, ClassData(typeof(Matrix))]
    public async Task A_full_disk_is_said_and_the_machine_goes_on(string backend)
    {
        var subject = await SubjectAsync(backend);
        await using var vm = await subject.StartAsync(Ct);
        var handle = (await AskAsync(vm, new Request { OpenFile = new OpenFile { Path = "fill", Write = new OpenWrite() } })).Handle.Handle;
        var chunk = Google.Protobuf.ByteString.CopyFrom(RandomNumberGenerator.GetBytes(256 * 1024));
        var full = await Assert.ThrowsAsync<Isolation.Guest.GuestException>(async () =>
        {
            for (var i = 0; i < (subject.Sizes.DiskMiB + 64) * 4; i++)
            {
                await AskAsync(vm, new Request { Write = new WriteChunk { Handle = handle, Offset = (ulong)i * 256 * 1024, Data = chunk } });
            }
        });
        Assert.Equal(ErrorCode.DiskFull, full.Code);
        await AskAsync(vm, new Request { CloseFile = new CloseFile { Handle = handle, Commit = false } });
        await WriteAsync(vm, "small", [1, 2, 3]);
        Assert.Equal([1, 2, 3], await ReadAsync(vm, "small"));
        Passed(subject);
    }
}
