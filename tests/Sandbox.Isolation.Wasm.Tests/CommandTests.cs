using System.Text;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.TestSupport;
using Sandbox.Isolation.Wasm.Tests.Support;
using Xunit;
using static Sandbox.Isolation.Wasm.Tests.Support.WasmFixture;

namespace Sandbox.Isolation.Wasm.Tests;

public sealed class CommandTests(WasmFixture host)
{
    [Fact]
    public async Task A_module_runs_with_its_exit_code()
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "exit.wasm", Modules.Exit(7));

        Assert.Equal(7, (await RunAsync(vm, "exit.wasm")).Exited.ExitCode);
        Assert.Equal(7, (await RunAsync(vm, "./exit.wasm")).Exited.ExitCode);
        Assert.Equal(7, (await RunAsync(vm, "/home/user/exit.wasm", "with", "arguments")).Exited.ExitCode);
    }

    [Fact]
    public async Task Standard_input_reaches_a_module_and_comes_back()
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "cat.wasm", Modules.Cat);
        var execution = await vm.Guest.StartExecutionAsync(new StartExecution { ExecutionId = "e", Command = new Command { Argv = { "cat.wasm" }, OpenStdin = true } }, Token);
        var sent = new byte[300_000];
        Random.Shared.NextBytes(sent);
        var writing = Task.Run(
            async () =>
            {
                for (var at = 0; at < sent.Length; at += 50_000)
                {
                    await execution.WriteStdinAsync(sent.AsMemory(at, 50_000), at + 50_000 == sent.Length, Token);
                }
            },
            Token);

        var got = new MemoryStream();
        await foreach (var e in execution.Events)
        {
            await execution.AcknowledgeAsync(e.Seq, Token);
            e.Output?.Data.WriteTo(got);
        }

        await writing;
        Assert.Equal(sent, got.ToArray());
    }

    [Fact]
    public async Task Python_runs_a_script_with_arguments_and_files()
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "work/main.py", "import sys, os, helper\nprint(sys.argv, os.getcwd(), helper.X)\nopen('out.txt', 'w').write('written')\nsys.exit(4)");
        await WriteAsync(vm, "work/helper.py", "X = 5");

        var ran = await GuestRuns.RunAsync(vm, new StartExecution { Command = new Command { Argv = { "python3", "main.py", "a b" } }, Cwd = "work", Artifacts = new WatchArtifacts() }, Token);

        Assert.Equal("", ran.Stderr);
        Assert.Equal(("['/home/user/work/main.py', 'a b'] /home/user/work 5\n", 4), (ran.Stdout, ran.Exited.ExitCode));
        Assert.Equal("written", await ReadTextAsync(vm, "work/out.txt"));
    }

    [Fact]
    public async Task Python_runs_code_of_its_arguments_and_of_its_input()
    {
        await using var vm = await host.StartAsync();

        var code = await RunAsync(vm, "python", "-c", "import json, math, re, datetime, hashlib, sqlite3\nprint(json.dumps({'pi': math.pi}))");
        var failed = await RunAsync(vm, "python3", "-c", "raise ValueError('no')");

        Assert.StartsWith("{\"pi\": 3.14", code.Stdout, StringComparison.Ordinal);
        Assert.Equal(1, failed.Exited.ExitCode);
        Assert.Contains("ValueError: no", failed.Stderr, StringComparison.Ordinal);
    }

    [Fact]
    public async Task JavaScript_runs_a_script_with_files_and_modules()
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "main.js", """
            const fs = require("fs"), { twice } = require("./lib");
            fs.writeFileSync("out.bin", new Uint8Array([1, 2, 255]));
            console.log(process.argv.slice(2), twice(21), fs.readFileSync("out.bin"), fs.existsSync("nothing"));
            try { fs.readFileSync("nothing") } catch (e) { console.error(e.code) }
            setTimeout(() => { console.log("later"); process.exitCode = 5 }, 10);
            """);
        await WriteAsync(vm, "lib.js", "exports.twice = n => 2 * n;");

        var ran = await RunAsync(vm, "js", "main.js", "x");

        Assert.Equal("[ 'x' ] 42 Uint8Array(3) [ 1, 2, 255 ] false\nlater\n", ran.Stdout);
        Assert.Equal(("ENOENT\n", 5), (ran.Stderr, ran.Exited.ExitCode));
        Assert.Equal([1, 2, 255], await ReadAsync(vm, "out.bin"));
    }

    [Fact]
    public async Task JavaScript_evaluates_and_fails()
    {
        await using var vm = await host.StartAsync();

        var ran = await RunAsync(vm, "qjs", "-e", "console.log(6 * 7)");
        var failed = await RunAsync(vm, "js", "-e", "throw new RangeError('far')");

        Assert.Equal("42\n", ran.Stdout);
        Assert.Equal(1, failed.Exited.ExitCode);
        Assert.StartsWith("RangeError: far", failed.Stderr, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("/bin/bash", "WebAssembly")]
    [InlineData("ls", "WebAssembly")]
    [InlineData("nothing.wasm", "WebAssembly")]
    public async Task What_is_not_there_is_refused_precisely(string program, string says)
    {
        await using var vm = await host.StartAsync();

        var refused = await Assert.ThrowsAsync<GuestException>(() => RunAsync(vm, program, "-c", "true"));

        Assert.Equal(ErrorCode.NotFound, refused.Code);
        Assert.Contains(says, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Terminals_ports_and_users_are_refused()
    {
        await using var vm = await host.StartAsync();
        var terminal = await Assert.ThrowsAsync<GuestException>(() => vm.Guest.StartExecutionAsync(new StartExecution { Command = new Command { Argv = { "python" }, Pty = new PtySize { Columns = 80, Rows = 24 } } }, Token));
        var user = await Assert.ThrowsAsync<GuestException>(() => vm.Guest.StartExecutionAsync(new StartExecution { Command = new Command { Argv = { "python" } }, User = "root" }, Token));
        var port = await Assert.ThrowsAsync<GuestException>(() => vm.Guest.OpenPortAsync(80, Token));
        var directory = await Assert.ThrowsAsync<GuestException>(() => vm.Guest.StartExecutionAsync(new StartExecution { Command = new Command { Argv = { "python" } }, Cwd = "/nowhere" }, Token));

        Assert.Equal((ErrorCode.Unsupported, ErrorCode.NotFound, ErrorCode.NotFound, ErrorCode.NotFound), (terminal.Code, user.Code, port.Code, directory.Code));
        Assert.Contains("no network", port.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("#!/bin/sh\necho hi", "no WebAssembly module")]
    [InlineData("\u007fELF and so on", "neither is ever loaded")]
    public async Task What_is_no_module_is_never_loaded(string content, string says)
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "x.wasm", Encoding.Latin1.GetBytes(content));

        var ran = await RunAsync(vm, "x.wasm");

        Assert.Equal(126, ran.Exited.ExitCode);
        Assert.Contains(says, ran.Stderr, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_precompiled_module_of_our_own_is_not_loaded_from_a_session()
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "x.wasm", await File.ReadAllBytesAsync(Path.Combine(host.Image, "quickjs.cwasm"), Token));

        Assert.Contains("neither is ever loaded", (await RunAsync(vm, "x.wasm")).Stderr, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Damaged_modules_and_strange_imports_are_explained()
    {
        await using var vm = await host.StartAsync();
        await WriteAsync(vm, "cut.wasm", Modules.Cat[..^20]);
        await WriteAsync(vm, "strange.wasm", Modules.Stranger);

        var cut = await RunAsync(vm, "cut.wasm");
        var strange = await RunAsync(vm, "strange.wasm");

        Assert.Equal((126, 126), (cut.Exited.ExitCode, strange.Exited.ExitCode));
        Assert.Contains("could not be compiled", cut.Stderr, StringComparison.Ordinal);
        Assert.Contains("env.launch_missiles", strange.Stderr, StringComparison.Ordinal);
    }
}
