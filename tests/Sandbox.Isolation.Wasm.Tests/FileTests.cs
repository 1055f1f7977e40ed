using System.Text;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Wasm.Tests.Support;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;
using static Sandbox.Isolation.Wasm.Tests.Support.WasmFixture;

namespace Sandbox.Isolation.Wasm.Tests;

public sealed class FileTests(WasmFixture host)
{
    [Fact]
    public async Task Files_are_written_read_listed_moved_and_removed()
    {
        await using var vm = await host.StartAsync();
        var content = new byte[700_000];
        Random.Shared.NextBytes(content);
        await WriteAsync(vm, "a/b/data.bin", content);
        await WriteAsync(vm, "a/b/data.bin", content[..500_000]);
        await WriteAsync(vm, "a/empty", "");

        Assert.Equal(content[..500_000], await ReadAsync(vm, "/home/user/a/b/data.bin"));
        var list = (await vm.Guest.RequestAsync(new Request { List = new ListDirectory { Path = "a", Depth = 3 } }, Token)).Files;
        Assert.Equal(["/home/user/a/b", "/home/user/a/b/data.bin", "/home/user/a/empty"], list.Entries.Select(e => e.Path));
        Assert.Equal((500_000UL, FileType.Regular, "user"), (list.Entries[1].Size, list.Entries[1].Type, list.Entries[1].Owner));

        await vm.Guest.RequestAsync(new Request { Move = new MovePath { From = "a/b", To = "c" } }, Token);
        var conflict = await Assert.ThrowsAsync<GuestException>(() => vm.Guest.RequestAsync(new Request { Move = new MovePath { From = "c/data.bin", To = "a/empty" } }, Token));
        var full = await Assert.ThrowsAsync<GuestException>(() => vm.Guest.RequestAsync(new Request { Remove = new RemovePath { Path = "c" } }, Token));
        await vm.Guest.RequestAsync(new Request { Remove = new RemovePath { Path = "c", Recursive = true } }, Token);
        var gone = await Assert.ThrowsAsync<GuestException>(() => vm.Guest.RequestAsync(new Request { Stat = new StatPath { Path = "c/data.bin" } }, Token));

        Assert.Equal((ErrorCode.AlreadyExists, ErrorCode.NotEmpty, ErrorCode.NotFound), (conflict.Code, full.Code, gone.Code));
    }

    [Fact]
    public async Task A_file_that_is_not_committed_is_not_there()
    {
        await using var vm = await host.StartAsync();
        var handle = (await vm.Guest.RequestAsync(new Request { OpenFile = new OpenFile { Path = "x", Write = new OpenWrite() } }, Token)).Handle.Handle;
        await vm.Guest.RequestAsync(new Request { Write = new WriteChunk { Handle = handle, Data = ByteString.CopyFromUtf8("half") } }, Token);

        await Assert.ThrowsAsync<GuestException>(() => vm.Guest.RequestAsync(new Request { Stat = new StatPath { Path = "x" } }, Token));
        await vm.Guest.RequestAsync(new Request { CloseFile = new CloseFile { Handle = handle } }, Token);
        await Assert.ThrowsAsync<GuestException>(() => vm.Guest.RequestAsync(new Request { Stat = new StatPath { Path = "x" } }, Token));
    }

    [Fact]
    public async Task Files_have_labels_and_can_be_appended_to()
    {
        await using var vm = await host.StartAsync();
        var write = new OpenWrite { Permissions = 0x180, Metadata = { ["kind"] = "test" } };
        var handle = (await vm.Guest.RequestAsync(new Request { OpenFile = new OpenFile { Path = "x", Write = write } }, Token)).Handle.Handle;
        await vm.Guest.RequestAsync(new Request { Write = new WriteChunk { Handle = handle, Data = ByteString.CopyFromUtf8("one") } }, Token);
        await vm.Guest.RequestAsync(new Request { CloseFile = new CloseFile { Handle = handle, Commit = true } }, Token);
        handle = (await vm.Guest.RequestAsync(new Request { OpenFile = new OpenFile { Path = "x", Write = new OpenWrite { Append = true } } }, Token)).Handle.Handle;
        await vm.Guest.RequestAsync(new Request { Write = new WriteChunk { Handle = handle, Data = ByteString.CopyFromUtf8(" two") } }, Token);
        await vm.Guest.RequestAsync(new Request { CloseFile = new CloseFile { Handle = handle, Commit = true } }, Token);

        var file = (await vm.Guest.RequestAsync(new Request { Stat = new StatPath { Path = "x" } }, Token)).File;
        Assert.Equal(("test", 0x180U), (file.Metadata["kind"], file.Mode));
        Assert.Equal("one two", await ReadTextAsync(vm, "x"));
    }

    [Fact]
    public async Task No_path_leads_out()
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "python");
        var ran = await CodeAsync(vm, "c", """
            import os
            os.symlink('/etc/passwd', 'absolute')
            os.symlink('../../../../../../etc/passwd', 'relative')
            os.symlink('/proc/self/root', 'proc')
            os.symlink('loop', 'loop')
            def attempt(path):
                try:
                    return open(path).read()[:10]
                except OSError as e:
                    return type(e).__name__
            print([attempt(p) for p in ('/etc/passwd', '../../../../etc/passwd', 'absolute', 'relative', 'proc/etc/passwd', 'loop')], sorted(os.listdir('/')), os.path.exists('/proc'))
            """);

        Assert.Equal("['FileNotFoundError', 'FileNotFoundError', 'FileNotFoundError', 'FileNotFoundError', 'FileNotFoundError', 'OSError'] ['home', 'tmp'] False\n", ran.Stdout);
        foreach (var path in (string[])["absolute", "relative", "proc/etc/passwd", "../../../../etc/passwd"])
        {
            Assert.Equal(ErrorCode.NotFound, (await Assert.ThrowsAsync<GuestException>(() => ReadAsync(vm, path))).Code);
        }
    }

    [Fact]
    public async Task Files_behave_as_files_do()
    {
        await using var vm = await host.StartAsync();
        await ContextAsync(vm, "python");
        var ran = await CodeAsync(vm, "c", """
            import os, shutil
            with open('sparse', 'wb') as f:
                f.seek(1 << 34); f.write(b'end')
            print(os.stat('sparse').st_size)
            with open('sparse', 'rb') as f:
                print(f.read(5), f.seek((1 << 34) - 2), f.read())
            with open('x', 'wb') as f:
                f.write(b'a' * 10000)
            with open('x', 'r+b') as f:
                f.seek(5000); f.write(b'b'); f.truncate(6000); f.truncate(9000); f.seek(0)
                d = f.read(); print(len(d), d.count(b'a'), d.count(b'b'), d.count(b'\0'))
            f = open('gone', 'w+'); f.write('still'); f.flush(); os.unlink('gone'); f.seek(0); print(f.read(), os.path.exists('gone')); f.close()
            os.makedirs('t/u/v'); open('t/u/file', 'w').write('1'); os.rename('t/u', 't/w'); print(sorted(os.listdir('t/w')))
            os.link('x', 'hard'); print(os.stat('hard').st_nlink); os.symlink('x', 'soft'); print(os.readlink('soft'), os.path.getsize('soft'))
            shutil.rmtree('t'); print(os.path.exists('t'))
            try: os.rename('/home', '/home/user/inside')
            except OSError as e: print('refused')
            open('ünïcode-名', 'w').write('ok'); print(open('ünïcode-名').read())
            with open('log', 'a') as f: f.write('1\n')
            with open('log', 'a') as f: f.write('2\n')
            print(open('log').read().split())
            """);

        Assert.Null(ran.Error);
        Assert.Equal(
            "17179869187\nb'\\x00\\x00\\x00\\x00\\x00' 17179869182 b'\\x00\\x00end'\n9000 5999 1 3000\nstill False\n['file', 'v']\n2\nx 9000\nFalse\nrefused\nok\n['1', '2']\n",
            ran.Stdout);
    }

    [Fact]
    public async Task The_disk_has_a_size_that_holds()
    {
        await using var vm = await host.StartAsync(diskMiB: 64);
        await ContextAsync(vm, "python");

        var full = await CodeAsync(vm, "c", """
            written = 0
            try:
                with open('big', 'wb', buffering=0) as f:
                    while True:
                        written += f.write(b'x' * 1_000_000)
            except OSError as e:
                print(e.errno, written > 60_000_000, written <= 64 << 20)
            """);
        var files = await CodeAsync(vm, "c", """
            import os
            os.unlink('big')
            n = 0
            try:
                while True:
                    open('f%d' % n, 'w').close(); n += 1
            except OSError as e:
                print(e.errno, n > 1000, n < 20000)
            """);
        var upload = await Assert.ThrowsAsync<GuestException>(() => WriteAsync(vm, "more", "x"));
        var recovered = await CodeAsync(vm, "c", "for i in range(n): os.unlink('f%d' % i)\nopen('again', 'wb').write(b'y' * 50_000_000)");

        Assert.Equal("51 True True\n", full.Stdout);
        Assert.Equal("51 True True\n", files.Stdout);
        Assert.Equal(ErrorCode.DiskFull, upload.Code);
        Assert.Null(recovered.Error);
        Assert.InRange(new global::System.IO.FileInfo(DiskOf(vm)).Length, 64L << 20, 64L << 20);
    }

    [Fact]
    public async Task A_disk_outlives_its_machine_and_its_worker()
    {
        var spec = host.Spec();
        await using (var vm = await host.Backend.StartAsync(spec, Token))
        {
            await WriteAsync(vm, "kept/file", "by the host");
            await ContextAsync(vm, "python");
            await CodeAsync(vm, "c", "open('code', 'w').write('by code' * 10000)");
        }

        var options = host.NewOptions();
        await using (var other = new WasmBackend(options, Microsoft.Extensions.Logging.Abstractions.NullLogger<WasmBackend>.Instance))
        {
            await using var again = await other.StartAsync(spec, Token);
            Assert.Equal("by the host", await ReadTextAsync(again, "kept/file"));
            Assert.Equal(70_000, (await ReadAsync(again, "code")).Length);
        }

        Directory.Delete(Path.Combine(Runtime(options), "wasm"));
        Directory.Delete(Runtime(options));
    }

    [Fact]
    public async Task A_disk_of_another_making_is_refused()
    {
        var spec = host.Spec();
        Directory.CreateDirectory(Path.GetDirectoryName(spec.DiskPath)!);
        var bytes = new byte[spec.DiskMiB << 20];
        Random.Shared.NextBytes(bytes.AsSpan(0, 100_000));
        await File.WriteAllBytesAsync(spec.DiskPath, bytes, Token);

        var refused = await Assert.ThrowsAsync<IsolationException>(() => host.Backend.StartAsync(spec, Token));

        Assert.Contains("no valid header", refused.Message, StringComparison.Ordinal);
        Assert.True(File.Exists(spec.DiskPath));
    }

    [Fact]
    public async Task Changes_are_watched_and_artifacts_named()
    {
        await using var vm = await host.StartAsync();
        await using var watch = await vm.Guest.WatchAsync(new Watch { Path = "/home/user", Recursive = true }, Token);
        await ContextAsync(vm, "python");

        var execution = await vm.Guest.StartExecutionAsync(
            new StartExecution
            {
                ExecutionId = "e",
                Artifacts = new WatchArtifacts(),
                Code = new Code { ContextId = "c", Source = "import os\nos.makedirs('d/.hidden')\nopen('d/made', 'w').write('123')\nopen('d/.hidden/not', 'w').close()\nopen('/tmp/other', 'w').close()" },
            },
            Token);
        ChangedFiles? changed = null;
        await foreach (var e in execution.Events)
        {
            await execution.AcknowledgeAsync(e.Seq, Token);
            changed ??= e.ChangedFiles;
        }

        var seen = new StringBuilder();
        await foreach (var e in watch.Events.WithCancellation(Token))
        {
            seen.Append(e.Kind).Append(' ').Append(e.Path).Append('\n');
            if (e.Path.EndsWith("/not", StringComparison.Ordinal))
            {
                break;
            }
        }

        Assert.Equal(("/home/user/d/made", 3UL), (changed!.Files.Single().Path, changed.Files[0].Size));
        Assert.StartsWith("Created /home/user/d\nCreated /home/user/d/.hidden\nCreated /home/user/d/made\nWritten /home/user/d/made\n", seen.ToString(), StringComparison.Ordinal);
    }

    private static string DiskOf(IMicroVm vm) => Directory.GetFiles(Path.GetTempPath(), vm.Owner.VmId + ".img", SearchOption.AllDirectories).First(f => f.Contains("sandbox-wasm-", StringComparison.Ordinal));
}
