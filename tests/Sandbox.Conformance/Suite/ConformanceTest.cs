using System.Runtime.CompilerServices;
using Sandbox.Conformance.Backends;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.TestSupport;
using Xunit;

namespace Sandbox.Conformance.Suite;

/// <summary>What the tests of the suite share.</summary>
public abstract class ConformanceTest(Subjects subjects)
{
    protected static CancellationToken Ct => TestContext.Current.CancellationToken;

    protected Task<Subject> SubjectAsync(string backend) => subjects.GetAsync(backend);

    /// <summary>A backend that runs programs; a test of one that does not is skipped.</summary>
    protected async Task<Subject> WithProcessesAsync(string backend)
    {
        var subject = await SubjectAsync(backend);
        Assert.SkipUnless(subject.Can.Processes, $"{backend} runs no programs, and says so");
        return subject;
    }

    protected static void Passed(Subject subject, [CallerMemberName] string test = "") => subject.Findings.Passed.Add(test);

    protected static Task<Ran> ShellAsync(IMicroVm vm, string command, ulong timeoutMs = 60_000, string user = "") => GuestRuns.ShellAsync(vm, command, timeoutMs, user, Ct);

    protected static Task<Ran> CodeAsync(IMicroVm vm, string context, string code, ulong timeoutMs = 60_000) => GuestRuns.CodeAsync(vm, context, code, timeoutMs, Ct);

    protected static Task<Response> AskAsync(IMicroVm vm, Request request) => vm.Guest.RequestAsync(request, Ct);

    protected static async Task WriteAsync(IMicroVm vm, string path, byte[] content)
    {
        var handle = (await AskAsync(vm, new Request { OpenFile = new OpenFile { Path = path, Write = new OpenWrite { MakeParents = true } } })).Handle.Handle;
        const int Chunk = 256 * 1024;
        for (var at = 0; at < content.Length; at += Chunk)
        {
            var data = Google.Protobuf.ByteString.CopyFrom(content, at, Math.Min(Chunk, content.Length - at));
            await AskAsync(vm, new Request { Write = new WriteChunk { Handle = handle, Offset = (ulong)at, Data = data } });
        }

        await AskAsync(vm, new Request { CloseFile = new CloseFile { Handle = handle, Commit = true } });
    }

    protected static async Task<byte[]> ReadAsync(IMicroVm vm, string path)
    {
        var handle = (await AskAsync(vm, new Request { OpenFile = new OpenFile { Path = path, Read = new OpenRead() } })).Handle.Handle;
        using var content = new MemoryStream();
        while (true)
        {
            var chunk = (await AskAsync(vm, new Request { Read = new ReadChunk { Handle = handle, Offset = (ulong)content.Length, Length = 256 * 1024 } })).Chunk;
            chunk.Data.WriteTo(content);
            if (chunk.Eof || chunk.Data.Length == 0)
            {
                break;
            }
        }

        await AskAsync(vm, new Request { CloseFile = new CloseFile { Handle = handle } });
        return content.ToArray();
    }

    protected static async Task<GuestException> RefusedAsync(IMicroVm vm, Request request) => await Assert.ThrowsAsync<GuestException>(() => AskAsync(vm, request));

    /// <summary>Waits for what comes with time.</summary>
    protected static async Task UntilAsync(Func<bool> holds, string what, int seconds = 30)
    {
        var until = DateTime.UtcNow.AddSeconds(seconds);
        while (!holds())
        {
            Assert.True(DateTime.UtcNow < until, what);
            await Task.Delay(20, Ct);
        }
    }
}
