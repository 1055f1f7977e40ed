using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Xunit;
using static Sandbox.Isolation.TestSupport.GuestRuns;

namespace Sandbox.Isolation.Wasm.Tests;

public sealed class FirstTests
{
    [Fact]
    public async Task Try()
    {
        var image = "/tmp/w/images/wasm/1";
        Directory.CreateDirectory(image);
        foreach (var f in Directory.GetFiles("/tmp/w/img")) File.Copy(f, Path.Combine(image, Path.GetFileName(f)), true);
        new TemplateImage { Template = "wasm", Version = "1", Kind = "wasm", BuiltAt = DateTimeOffset.UtcNow, KernelRelease = "none" }.Save(image);
        await using var backend = new WasmBackend(new WasmOptions { HostId = "test-wasm", CacheDirectory = "/tmp/w/cache", ImageRoot = "/tmp/w/images" }, NullLogger<WasmBackend>.Instance);
        Console.WriteLine(await backend.ProbeAsync(default));
        var t = Stopwatch.StartNew();
        File.Delete("/tmp/w/disk.img");
        await using var vm = await backend.StartAsync(new MicroVmSpec { Owner = new MicroVmOwner("vm1", "ses1", 1), ImageDirectory = image, Vcpus = 1, MemoryMiB = 256, DiskMiB = 128, DiskPath = "/tmp/w/disk.img", Hostname = "h" }, default);
        Console.WriteLine($"start {t.Elapsed}");
        foreach (var lang in new[] { "javascript", "python" })
        for (var i = 0; i < 3; i++)
        {
            t.Restart();
            await vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = lang + i, Language = lang } }, default);
            Console.WriteLine($"{lang} context {t.Elapsed}");
            t.Restart();
            var r = await CodeAsync(vm, lang + i, lang == "javascript" ? "const x = {a:1, b:[1,2]}; console.log('hi', x); x" : "import os, sys\nprint('hi', os.getcwd(), os.listdir('/'), sys.version)\nx = 5\nx+1");
            Console.WriteLine($"{lang} code {t.Elapsed} exit {r.Exited} out {r.Stdout} err {r.Stderr} error {r.Error} results {string.Join(";", r.Results)}");
        }
    }
}
