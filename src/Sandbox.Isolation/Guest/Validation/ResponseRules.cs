using Sandbox.Guest.Protocol;
using FileInfo = Sandbox.Guest.Protocol.FileInfo;
using Op = Sandbox.Guest.Protocol.Request.OpOneofCase;
using Result = Sandbox.Guest.Protocol.Response.ResultOneofCase;

namespace Sandbox.Isolation.Guest.Validation;

/// <summary>Which answer fits which request, and what it may hold. Every breach is a <see cref="ProtocolException"/>.</summary>
internal static class ResponseRules
{
    /// <summary>Checks an answer against its request. An error's message is made fit to be shown, in place.</summary>
    public static void Check(Request request, Response response)
    {
        if (response.ResultCase == Result.Error)
        {
            CheckError(response.Error);
            return;
        }

        if (!Fits(request.OpCase, response.ResultCase))
        {
            throw new ProtocolException($"A {response.ResultCase} answers a {request.OpCase}.");
        }

        switch (response.ResultCase)
        {
            case Result.Started when response.Started.Pid is 0 or > int.MaxValue:
                throw new ProtocolException($"An execution started with process id {response.Started.Pid}.");
            case Result.Executions:
                CheckExecutions(response.Executions);
                break;
            case Result.Metrics:
                CheckMetrics(response.Metrics);
                break;
            case Result.Context:
                CheckContext(response.Context);
                RequireSame(response.Context.ContextId, request.CreateContext?.ContextId ?? request.RestartContext.ContextId);
                break;
            case Result.Contexts:
                RequireCount(response.Contexts.Contexts.Count, ProtocolLimits.MaxContexts, "contexts");
                foreach (var context in response.Contexts.Contexts)
                {
                    CheckContext(context);
                }

                break;
            case Result.File:
                CheckFile(response.File);
                break;
            case Result.Files:
                CheckFiles(request.List, response.Files);
                break;
            case Result.Handle when response.Handle.Info is not null:
                CheckFile(response.Handle.Info);
                break;
            case Result.Chunk:
                CheckChunk(request.Read, response.Chunk);
                break;
        }
    }

    private static bool Fits(Op op, Result result) => op switch
    {
        Op.Start => result is Result.Started,
        Op.ListExecutions => result is Result.Executions,
        Op.Metrics => result is Result.Metrics,
        Op.CreateContext => result is Result.Context,
        Op.ListContexts => result is Result.Contexts,
        Op.RestartContext => result is Result.Context or Result.Empty,
        Op.Stat => result is Result.File,
        Op.List => result is Result.Files,
        Op.OpenFile => result is Result.Handle,
        Op.Read => result is Result.Chunk,
        Op.Mkdir or Op.Move or Op.CloseFile => result is Result.Empty or Result.File,
        _ => result is Result.Empty,
    };

    private static void CheckError(Error error)
    {
        if (!Enum.IsDefined(error.Code) || error.Code == ErrorCode.Unspecified || error.Errno is < 0 or > 4095)
        {
            throw new ProtocolException($"An error with code {(int)error.Code} and errno {error.Errno}.");
        }

        error.Message = GuestText.Clean(error.Message, ProtocolLimits.MaxErrorMessageBytes);
    }

    private static void CheckExecutions(ExecutionList list)
    {
        RequireCount(list.Executions.Count, ProtocolLimits.MaxExecutions, "executions");
        foreach (var execution in list.Executions)
        {
            GuestText.RequireAtMost(execution.ExecutionId, GuestLimits.MaxNameBytes, "An execution id");
            GuestText.RequireAtMost(execution.ContextId, GuestLimits.MaxNameBytes, "A context id");
            GuestText.RequirePath(execution.Cwd, "A working directory", mayBeEmpty: true);
            RequireCount(execution.Argv.Count, GuestLimits.MaxArguments, "arguments");
        }
    }

    private static void CheckMetrics(Metrics metrics)
    {
        // NaN and infinities have no JSON; counters become signed numbers further up.
        var counters = metrics.MemoryTotal | metrics.MemoryAvailable | metrics.DiskTotal | metrics.DiskFree | metrics.CpuBusyMs | metrics.UptimeMs;
        if (!double.IsFinite(metrics.Load1) || metrics.Load1 < 0 || counters > long.MaxValue || metrics.Vcpus > 4096)
        {
            throw new ProtocolException("Metrics that measure nothing.");
        }
    }

    private static void CheckContext(Context context)
    {
        GuestText.RequireAtMost(context.ContextId, GuestLimits.MaxNameBytes, "A context id");
        GuestText.RequireAtMost(context.Language, GuestLimits.MaxNameBytes, "A language");
        GuestText.RequirePath(context.Cwd, "A working directory", mayBeEmpty: true);
    }

    private static void CheckFiles(ListDirectory request, FileList files)
    {
        var limit = request.Limit is 0 or > ProtocolLimits.MaxListEntries ? ProtocolLimits.MaxListEntries : (int)request.Limit;
        RequireCount(files.Entries.Count, limit, "directory entries");
        if (files.More && files.Entries.Count == 0)
        {
            // The caller would ask for the next page for ever.
            throw new ProtocolException("An empty page of a directory that says there is more.");
        }

        foreach (var file in files.Entries)
        {
            CheckFile(file);
        }
    }

    private static void CheckFile(FileInfo file)
    {
        GuestText.RequirePath(file.Path, "A path");
        GuestText.RequirePath(file.SymlinkTarget, "A symbolic link's target", mayBeEmpty: true);
        GuestText.RequireAtMost(file.Owner, GuestLimits.MaxNameBytes, "An owner");
        GuestText.RequireAtMost(file.Group, GuestLimits.MaxNameBytes, "A group");
        LabelRules.DropUnfit(file.Metadata);
        if (!Enum.IsDefined(file.Type) || file.Type == FileType.Unspecified || file.Mode > 0xFFF || file.Size > long.MaxValue || file.Blocks > long.MaxValue / 512)
        {
            throw new ProtocolException($"A file of type {(int)file.Type}, mode {file.Mode} and {file.Size} bytes.");
        }
    }

    private static void CheckChunk(ReadChunk request, Chunk chunk)
    {
        if (chunk.Offset != request.Offset || chunk.Data.Length > Math.Min(request.Length, ProtocolLimits.MaxChunkBytes))
        {
            throw new ProtocolException($"A chunk of {chunk.Data.Length} bytes at {chunk.Offset}; asked were {request.Length} at {request.Offset}.");
        }

        if (chunk.Data.Length == 0 && !chunk.Eof && request.Length > 0)
        {
            // The caller would read for ever.
            throw new ProtocolException("An empty chunk that is not the end of its file.");
        }
    }

    private static void RequireCount(int count, int limit, string what)
    {
        if (count > limit)
        {
            throw new ProtocolException($"A list of {count} {what}; allowed are {limit}.");
        }
    }

    private static void RequireSame(string got, string asked)
    {
        if (got != asked)
        {
            throw new ProtocolException("An answer about another context than the one asked for.");
        }
    }
}
