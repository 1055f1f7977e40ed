using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Images;
using Xunit;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>A backend of its own for the tests, on the image that <c>./scripts/test</c> has built.</summary>
public sealed class BackendFixture : IDisposable
{
    private readonly string _directory = Directory.CreateTempSubdirectory("sandbox-qemu-").FullName;
    private int _next;

    public BackendFixture()
    {
        Image = new ImageStore(Environment.GetEnvironmentVariable("SANDBOX_IMAGE_ROOT") ?? ImageStore.DefaultRoot).FindCurrent("python")
            ?? throw new InvalidOperationException("There is no guest image; ./scripts/test builds it.");
        Options = new QemuOptions
        {
            HostId = "test-" + Guid.NewGuid().ToString("N")[..8],
            CacheDirectory = Path.Combine(_directory, "cache"),
            Accelerator = "tcg",
        };
        Backend = new QemuBackend(Options, NullLogger<QemuBackend>.Instance);
    }

    public string Image { get; }

    /// <summary>Golden snapshots that tests made for sizes of their own: a third of a gigabyte each.</summary>
    public HashSet<string> Goldens { get; } = [];

    public QemuOptions Options { get; }

    public QemuBackend Backend { get; }

    public MicroVmSpec Spec(int memoryMiB = 384, int diskMiB = 256)
    {
        var id = $"vm{Interlocked.Increment(ref _next)}";
        return new MicroVmSpec
        {
            Owner = new MicroVmOwner(id, "ses_" + id, 1),
            ImageDirectory = Image,
            Vcpus = 1,
            MemoryMiB = memoryMiB,
            DiskMiB = diskMiB,
            DiskPath = Path.Combine(_directory, "disks", id + ".img"),
            Hostname = "test-" + id,
        };
    }

    public void Dispose()
    {
        foreach (var golden in Goldens.Where(Directory.Exists))
        {
            Directory.Delete(golden, recursive: true);
        }

        Directory.Delete(_directory, recursive: true);
        var runtime = Path.Combine(Options.RuntimeRoot, Options.HostId);
        if (Directory.Exists(runtime))
        {
            // Not recursive: a microVM that was left behind must be noticed.
            Directory.Delete(runtime);
        }
    }

    /// <summary>Makes a golden snapshot that is removed when the tests are over.</summary>
    public async Task<GoldenSnapshot> BuildGoldenAsync(TemplateSizes sizes)
    {
        var golden = await Backend.BuildGoldenAsync(Image, sizes, TestContext.Current.CancellationToken);
        lock (Goldens)
        {
            Goldens.Add(golden.Directory);
        }

        return golden;
    }

    /// <summary>Runs something in a guest to its end.</summary>
    public static async Task<Ran> RunAsync(IMicroVm vm, StartExecution request)
    {
        request.ExecutionId = Guid.NewGuid().ToString("N");
        var execution = await vm.Guest.StartExecutionAsync(request, TestContext.Current.CancellationToken);
        var stdout = new MemoryStream();
        var stderr = new MemoryStream();
        var ran = new Ran();
        await foreach (var e in execution.Events)
        {
            await execution.AcknowledgeAsync(e.Seq, TestContext.Current.CancellationToken);
            switch (e.EventCase)
            {
                case ExecutionEvent.EventOneofCase.Output:
                    e.Output.Data.WriteTo(e.Output.Fd == OutputFd.Stderr ? stderr : stdout);
                    break;
                case ExecutionEvent.EventOneofCase.Result:
                    ran.Results.Add(e.Result);
                    break;
                case ExecutionEvent.EventOneofCase.CodeError:
                    ran.Error = e.CodeError;
                    break;
                case ExecutionEvent.EventOneofCase.Exited:
                    ran.Exited = e.Exited;
                    break;
            }
        }

        ran.Stdout = Encoding.UTF8.GetString(stdout.ToArray());
        ran.Stderr = Encoding.UTF8.GetString(stderr.ToArray());
        return ran;
    }

    public static Task<Ran> ShellAsync(IMicroVm vm, string command, ulong timeoutMs = 0, string user = "") =>
        RunAsync(vm, new StartExecution { Command = new Command { Argv = { "/bin/bash", "-c", command } }, TimeoutMs = timeoutMs, User = user });

    public static Task<Ran> CodeAsync(IMicroVm vm, string context, string code, ulong timeoutMs = 0) =>
        RunAsync(vm, new StartExecution { Code = new Code { ContextId = context, Source = code }, TimeoutMs = timeoutMs });

    public sealed class Ran
    {
        public string Stdout { get; set; } = "";

        public string Stderr { get; set; } = "";

        public List<RichResult> Results { get; } = [];

        public CodeError? Error { get; set; }

        public Exited Exited { get; set; } = new();
    }
}
