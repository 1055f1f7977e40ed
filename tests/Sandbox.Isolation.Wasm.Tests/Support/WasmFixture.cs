using System.Security.Cryptography;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Sandbox.Isolation.TestSupport;
using Sandbox.Isolation.Wasm.Tests.Support;
using Sandbox.Templates;
using Sandbox.TestSupport;
using Xunit;

[assembly: AssemblyFixture(typeof(WasmFixture))]

namespace Sandbox.Isolation.Wasm.Tests.Support;

/// <summary>A backend with a worker of its own for all tests, on the image that ./scripts/test has built; where it has not, the image is built here.</summary>
public sealed class WasmFixture : IAsyncLifetime
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sandbox-wasm-").FullName;
    private int _next;

    public string Image { get; private set; } = "";

    public WasmOptions Options { get; private set; } = null!;

    public WasmBackend Backend { get; private set; } = null!;

    public static CancellationToken Token => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        var store = new ImageStore(Environment.GetEnvironmentVariable("SANDBOX_IMAGE_ROOT") ?? ImageStore.DefaultRoot);
        var definition = TemplateDefinition.Load(Path.Combine(Repository.Root, "deploy", "templates", "wasm"));
        Image = (await new WasmTemplateBuilder(store).BuildAsync(definition, Path.Combine(AppContext.BaseDirectory, "wasm-worker"), force: false, null, CancellationToken.None)).Directory;
        Options = NewOptions(store.Root);
        Backend = new WasmBackend(Options, NullLogger<WasmBackend>.Instance);
    }

    public async ValueTask DisposeAsync()
    {
        await Backend.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
        foreach (var left in Directory.Exists(Runtime(Options)) ? Directory.GetDirectories(Runtime(Options), "wasm") : [])
        {
            // Not recursive: a machine or a worker that was left behind must be noticed.
            Directory.Delete(left);
            Directory.Delete(Runtime(Options));
        }
    }

    public static string Runtime(WasmOptions options) => Path.Combine(options.RuntimeRoot, options.HostId);

    /// <summary>Options of a host of its own.</summary>
    public WasmOptions NewOptions(string? imageRoot = null) => new()
    {
        HostId = "test-" + Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(4)),
        CacheDirectory = Path.Combine(_directory, "cache"),
        ImageRoot = imageRoot ?? Options.ImageRoot,
    };

    public MicroVmSpec Spec(int memoryMiB = 256, int diskMiB = 128, int vcpus = 1, MachineRestore? restore = null, string? disk = null)
    {
        var id = $"vm{Interlocked.Increment(ref _next)}";
        return new MicroVmSpec
        {
            Owner = new MicroVmOwner(id, "ses_" + id, 1),
            ImageDirectory = Image,
            Vcpus = vcpus,
            MemoryMiB = memoryMiB,
            DiskMiB = diskMiB,
            DiskPath = disk ?? Path.Combine(_directory, "disks", id + ".img"),
            Hostname = "test-" + id,
            Restore = restore,
        };
    }

    public Task<IMicroVm> StartAsync(int memoryMiB = 256, int diskMiB = 128, int vcpus = 1) => Backend.StartAsync(Spec(memoryMiB, diskMiB, vcpus), Token);

    public static async Task<string> ContextAsync(IMicroVm vm, string language, string id = "c", string cwd = "")
    {
        await vm.Guest.RequestAsync(new Request { CreateContext = new CreateContext { ContextId = id, Language = language, Cwd = cwd } }, Token);
        return id;
    }

    public static Task<Ran> RunAsync(IMicroVm vm, params string[] argv) => RunAsync(vm, 0, argv);

    public static Task<Ran> RunAsync(IMicroVm vm, ulong timeoutMs, params string[] argv)
    {
        var command = new Command();
        command.Argv.AddRange(argv);
        return GuestRuns.RunAsync(vm, new StartExecution { Command = command, TimeoutMs = timeoutMs }, Token);
    }

    public static async Task WriteAsync(IMicroVm vm, string path, byte[] content)
    {
        var handle = (await vm.Guest.RequestAsync(new Request { OpenFile = new OpenFile { Path = path, Write = new OpenWrite { MakeParents = true } } }, Token)).Handle.Handle;
        for (var at = 0; at < content.Length; at += ProtocolLimits.MaxChunkBytes)
        {
            var part = ByteString.CopyFrom(content.AsSpan(at, Math.Min(ProtocolLimits.MaxChunkBytes, content.Length - at)));
            await vm.Guest.RequestAsync(new Request { Write = new WriteChunk { Handle = handle, Offset = (ulong)at, Data = part } }, Token);
        }

        await vm.Guest.RequestAsync(new Request { CloseFile = new CloseFile { Handle = handle, Commit = true } }, Token);
    }

    public static Task WriteAsync(IMicroVm vm, string path, string text) => WriteAsync(vm, path, System.Text.Encoding.UTF8.GetBytes(text));

    public static async Task<byte[]> ReadAsync(IMicroVm vm, string path)
    {
        var handle = (await vm.Guest.RequestAsync(new Request { OpenFile = new OpenFile { Path = path, Read = new OpenRead() } }, Token)).Handle.Handle;
        var all = new MemoryStream();
        while (true)
        {
            var chunk = (await vm.Guest.RequestAsync(new Request { Read = new ReadChunk { Handle = handle, Offset = (ulong)all.Length, Length = ProtocolLimits.MaxChunkBytes } }, Token)).Chunk;
            if (chunk.Data.Length == 0)
            {
                await vm.Guest.RequestAsync(new Request { CloseFile = new CloseFile { Handle = handle } }, Token);
                return all.ToArray();
            }

            chunk.Data.WriteTo(all);
        }
    }

    public static async Task<string> ReadTextAsync(IMicroVm vm, string path) => System.Text.Encoding.UTF8.GetString(await ReadAsync(vm, path));
}
