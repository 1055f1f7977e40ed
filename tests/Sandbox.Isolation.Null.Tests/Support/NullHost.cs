using System.Text;
using Google.Protobuf;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Xunit;

namespace Sandbox.Isolation.Null.Tests.Support;

/// <summary>A backend on a directory of its own, with a clock that the test moves.</summary>
internal sealed class NullHost : IDisposable
{
    private int _machines;
    private int _executions;

    public NullHost() => Backend = Another();

    public string Root { get; } = Directory.CreateTempSubdirectory("sandbox-null-").FullName;

    public FakeTimeProvider Clock { get; } = new(DateTimeOffset.UtcNow);

    public NullBackend Backend { get; }

    public string LiveDirectory => Path.Combine(Root, "live");

    public string Violations => Path.Combine(LiveDirectory, "violations.log");

    /// <summary>What another process would have.</summary>
    public NullBackend Another() => new(
        new NullOptions { RuntimeRoot = Path.Combine(Root, "run"), LiveDirectory = LiveDirectory, Clock = Clock }, NullLogger.Instance);

    public MicroVmSpec Spec(string session = "s1", MachineRestore? restore = null)
    {
        var id = $"vm-{++_machines}";
        return new MicroVmSpec
        {
            Owner = new MicroVmOwner(id, session, 1),
            ImageDirectory = Root,
            Vcpus = 1,
            MemoryMiB = 128,
            DiskMiB = 64,
            DiskPath = Path.Combine(Root, session + ".img"),
            Hostname = "test",
            Restore = restore,
        };
    }

    public Task<IMicroVm> StartAsync(string session = "s1", MachineRestore? restore = null) => Backend.StartAsync(Spec(session, restore), Token);

    public Task<IGuestExecution> RunAsync(IMicroVm vm, string line, Action<StartExecution>? with = null)
    {
        var request = new StartExecution { ExecutionId = $"e{++_executions}", Command = new Command { OpenStdin = true } };
        request.Command.Argv.AddRange(line.Split(' '));
        with?.Invoke(request);
        return vm.Guest.StartExecutionAsync(request, Token);
    }

    public Task<IGuestExecution> RunCodeAsync(IMicroVm vm, string source, Action<StartExecution>? with = null)
    {
        var request = new StartExecution { ExecutionId = $"e{++_executions}", Code = new Code { ContextId = "c1", Source = source } };
        with?.Invoke(request);
        return vm.Guest.StartExecutionAsync(request, Token);
    }

    public static CancellationToken Token => TestContext.Current.CancellationToken;

    /// <summary>Reads and acknowledges to the end.</summary>
    public static async Task<(string Text, Exited Exit)> FinishAsync(IGuestExecution execution)
    {
        var text = new StringBuilder();
        await foreach (var e in execution.Events.WithCancellation(Token))
        {
            await execution.AcknowledgeAsync(e.Seq, Token);
            text.Append(TextOf(e));
            if (e.Exited is { } exit)
            {
                return (text.ToString(), exit);
            }
        }

        throw new InvalidOperationException("The events ended without an exit.");
    }

    public static string TextOf(ExecutionEvent e) => e.Output?.Data.ToStringUtf8() ?? e.Result?.Data["text/plain"].ToStringUtf8() ?? e.CodeError?.Name ?? "";

    public static async Task WriteFileAsync(IMicroVm vm, string path, string text)
    {
        var handle = (await vm.Guest.RequestAsync(new Request { OpenFile = new OpenFile { Path = path, Write = new OpenWrite { MakeParents = true } } }, Token)).Handle.Handle;
        await vm.Guest.RequestAsync(new Request { Write = new WriteChunk { Handle = handle, Data = ByteString.CopyFromUtf8(text) } }, Token);
        await vm.Guest.RequestAsync(new Request { CloseFile = new CloseFile { Handle = handle, Commit = true } }, Token);
    }

    public static async Task<string> ReadFileAsync(IMicroVm vm, string path)
    {
        var handle = (await vm.Guest.RequestAsync(new Request { OpenFile = new OpenFile { Path = path, Read = new OpenRead() } }, Token)).Handle.Handle;
        return (await vm.Guest.RequestAsync(new Request { Read = new ReadChunk { Handle = handle, Length = 1000 } }, Token)).Chunk.Data.ToStringUtf8();
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
