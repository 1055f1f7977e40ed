using System.Collections.Concurrent;
using System.Text;
using System.Threading.Channels;
using Google.Protobuf;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using ErrorCode = Sandbox.Guest.Protocol.ErrorCode;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;
using Request = Sandbox.Guest.Protocol.Request;

namespace Sandbox.Grains.Tests.Support;

/// <summary>
/// A guest that runs scripted programs: <c>echo TEXT</c>, <c>cat</c>, <c>hold</c> (until signalled), <c>exit N</c>, <c>flood N</c> (bytes), <c>count N</c> (numbered lines). Files
/// live in the disk file's directory, so that they survive a microVM as a real disk does.
/// </summary>
internal sealed class TestGuest(string diskPath) : IGuest
{
    private readonly TaskCompletionSource<string> _closed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly ConcurrentDictionary<ulong, TestFile> _handles = new();
    private readonly ConcurrentDictionary<string, CreateContext> _contexts = new();
    private ulong _nextHandle;
    private int _pid = 100;

    public Task<string> Closed => _closed.Task;

    public ConcurrentDictionary<string, TestExecution> Executions { get; } = new();

    private string Root => Path.Combine(Path.GetDirectoryName(diskPath)!, "files");

    public void Close(string why)
    {
        _closed.TrySetResult(why);
        foreach (var execution in Executions.Values)
        {
            execution.Break();
        }
    }

    public Task<IGuestExecution> StartExecutionAsync(StartExecution request, CancellationToken cancellationToken)
    {
        if (Closed.IsCompleted)
        {
            throw new GuestUnavailableException("The test guest is closed.");
        }

        if (request.WhatCase == StartExecution.WhatOneofCase.Code && !_contexts.ContainsKey(request.Code.ContextId))
        {
            throw Fault(ErrorCode.NotFound, "no such context");
        }

        var argv = request.WhatCase == StartExecution.WhatOneofCase.Code ? ["echo", $"[{request.Code.ContextId}]{request.Code.Source}"] : request.Command.Argv.ToArray();
        if (argv[0] == "missing")
        {
            throw Fault(ErrorCode.NotFound, "missing: no such program");
        }

        var execution = new TestExecution(request.ExecutionId, (uint)Interlocked.Increment(ref _pid));
        Executions[request.ExecutionId] = execution;
        _ = Task.Run(() => execution.RunAsync(argv, request), CancellationToken.None);
        return Task.FromResult<IGuestExecution>(execution);
    }

    public Task<IGuestPort> OpenPortAsync(int port, CancellationToken cancellationToken) =>
        port == 7 ? Task.FromResult<IGuestPort>(new TestPort()) : throw Fault(ErrorCode.NotFound, "nobody listens");

    public Task<IGuestWatch> WatchAsync(Watch request, CancellationToken cancellationToken) => throw new NotSupportedException();

    public Task<Response> RequestAsync(Request request, CancellationToken cancellationToken)
    {
        if (Closed.IsCompleted)
        {
            throw new GuestUnavailableException("The test guest is closed.");
        }

        return Task.FromResult(request.OpCase switch
        {
            Request.OpOneofCase.CreateContext => Make(request.CreateContext),
            Request.OpOneofCase.ListContexts => ListContexts(),
            Request.OpOneofCase.OpenFile => Open(request.OpenFile),
            Request.OpOneofCase.Write => Write(request.Write),
            Request.OpOneofCase.Read => Read(request.Read),
            Request.OpOneofCase.CloseFile => CloseFile(request.CloseFile),
            Request.OpOneofCase.Stat => new Response { File = InfoOf(request.Stat.Path) },
            Request.OpOneofCase.Metrics => new Response { Metrics = new Metrics { Vcpus = 2, MemoryTotal = ulong.MaxValue } },
            _ => new Response { Empty = new Empty() },
        });
    }

    private Response Make(CreateContext request)
    {
        if (!_contexts.TryAdd(request.ContextId, request))
        {
            throw Fault(ErrorCode.AlreadyExists, "context exists");
        }

        return new Response { Context = new Context { ContextId = request.ContextId, Language = request.Language, Cwd = "/home/user" } };
    }

    private Response ListContexts()
    {
        var list = new ContextList();
        list.Contexts.AddRange(_contexts.Values.Select(c => new Context { ContextId = c.ContextId, Language = c.Language, Cwd = "/home/user" }));
        return new Response { Contexts = list };
    }

    private Response Open(OpenFile request)
    {
        var path = Local(request.Path);
        var write = request.ModeCase == OpenFile.ModeOneofCase.Write;
        if (!write && !File.Exists(path))
        {
            throw Fault(ErrorCode.NotFound, $"{request.Path}: no such file");
        }

        var handle = Interlocked.Increment(ref _nextHandle);
        _handles[handle] = new TestFile(path, write ? new MemoryStream() : new MemoryStream(File.ReadAllBytes(path)), write);
        return new Response { Handle = new FileHandle { Handle = handle, Info = write ? new FileInfo { Path = request.Path } : InfoOf(request.Path) } };
    }

    private Response Write(WriteChunk request)
    {
        var file = Handle(request.Handle);
        file.Content.Position = (long)request.Offset;
        file.Content.Write(request.Data.Span);
        return new Response { Empty = new Empty() };
    }

    private Response Read(ReadChunk request)
    {
        var content = Handle(request.Handle).Content;
        content.Position = (long)request.Offset;
        var buffer = new byte[request.Length];
        var read = content.Read(buffer);
        return new Response { Chunk = new Chunk { Offset = request.Offset, Data = ByteString.CopyFrom(buffer, 0, read) } };
    }

    private Response CloseFile(CloseFile request)
    {
        var file = Handle(request.Handle);
        _handles.TryRemove(request.Handle, out _);
        if (request.Commit && file.IsWrite)
        {
            Directory.CreateDirectory(Root);
            File.WriteAllBytes(file.Path, file.Content.ToArray());
        }

        return new Response { Empty = new Empty() };
    }

    private TestFile Handle(ulong handle) => _handles.TryGetValue(handle, out var file) ? file : throw Fault(ErrorCode.NotFound, "no such handle");

    private FileInfo InfoOf(string path)
    {
        var file = new System.IO.FileInfo(Local(path));
        return file.Exists
            ? new FileInfo { Path = path, Type = FileType.Regular, Size = (ulong)file.Length, Mode = 0x1A4, Owner = "user", Group = "user" }
            : throw Fault(ErrorCode.NotFound, $"{path}: no such file");
    }

    private string Local(string path) => Path.Combine(Root, Convert.ToHexString(Encoding.UTF8.GetBytes(path)));

    private static GuestException Fault(ErrorCode code, string message) => new(new Error { Code = code, Message = message });

    private sealed record TestFile(string Path, MemoryStream Content, bool IsWrite);
}

/// <summary>One scripted program.</summary>
internal sealed class TestExecution(string id, uint pid) : IGuestExecution
{
    private readonly Channel<ExecutionEvent> _events = Channel.CreateBounded<ExecutionEvent>(32);
    private readonly Channel<byte[]?> _stdin = Channel.CreateUnbounded<byte[]?>();
    private readonly TaskCompletionSource<int> _signal = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private ulong _seq;

    public string ExecutionId => id;

    public uint Pid => pid;

    public ulong Acknowledged { get; private set; }

    public IAsyncEnumerable<ExecutionEvent> Events => _events.Reader.ReadAllAsync();

    public ValueTask AcknowledgeAsync(ulong seq, CancellationToken cancellationToken)
    {
        Acknowledged = seq;
        return ValueTask.CompletedTask;
    }

    public ValueTask WriteStdinAsync(ReadOnlyMemory<byte> data, bool endOfFile, CancellationToken cancellationToken)
    {
        _stdin.Writer.TryWrite(data.ToArray());
        if (endOfFile)
        {
            _stdin.Writer.TryComplete();
        }

        return ValueTask.CompletedTask;
    }

    public ValueTask SignalAsync(int signal, CancellationToken cancellationToken)
    {
        _signal.TrySetResult(signal);
        return ValueTask.CompletedTask;
    }

    public ValueTask ResizeAsync(uint columns, uint rows, CancellationToken cancellationToken) => ValueTask.CompletedTask;

    public void Break() => _events.Writer.TryComplete(new GuestUnavailableException("The test guest is gone."));

    public async Task RunAsync(string[] argv, StartExecution request)
    {
        try
        {
            var exit = new Exited { WallMs = 1 };
            switch (argv[0])
            {
                case "echo":
                    await OutAsync(string.Join(' ', argv[1..]) + "\n");
                    break;
                case "env":
                    await OutAsync(request.Env[argv[1]]);
                    break;
                case "cat":
                    await foreach (var data in _stdin.Reader.ReadAllAsync())
                    {
                        await OutAsync(Encoding.UTF8.GetString(data!));
                    }

                    break;
                case "hold":
                    await OutAsync("holding\n");
                    exit.Signal = await _signal.Task;
                    break;
                case "exit":
                    exit.ExitCode = int.Parse(argv[1], System.Globalization.CultureInfo.InvariantCulture);
                    break;
                case "flood":
                    for (var left = int.Parse(argv[1], System.Globalization.CultureInfo.InvariantCulture); left > 0; left -= 1000)
                    {
                        await OutAsync(new string('x', Math.Min(left, 1000)));
                    }

                    break;
                case "count":
                    for (var i = 0; i < int.Parse(argv[1], System.Globalization.CultureInfo.InvariantCulture); i++)
                    {
                        await OutAsync($"{i}\n");
                    }

                    break;
            }

            await SendAsync(new ExecutionEvent { Exited = exit });
            _events.Writer.TryComplete();
        }
        catch (Exception e) when (e is ChannelClosedException or GuestUnavailableException)
        {
            // The machine was killed under it.
        }
    }

    private Task OutAsync(string text) =>
        SendAsync(new ExecutionEvent { Output = new Guest.Protocol.Output { Fd = OutputFd.Stdout, Data = ByteString.CopyFromUtf8(text) } });

    private async Task SendAsync(ExecutionEvent e)
    {
        e.Seq = ++_seq;
        await _events.Writer.WriteAsync(e);
    }
}
