using Sandbox.Abstractions;
using Sandbox.Guest.Protocol;
using Sandbox.Isolation.Guest;
using ErrorCode = Sandbox.Guest.Protocol.ErrorCode;

namespace Sandbox.Grains.Hosts.Executions;

/// <summary>Between the words of the contracts and the words of the guest protocol.</summary>
internal static class GuestRequests
{
    /// <summary>The guest's form of an execution request that a session has already checked.</summary>
    public static StartExecution Start(string executionId, ExecutionRequest request, int artifactLimit)
    {
        var start = new StartExecution
        {
            ExecutionId = executionId,
            Cwd = request.Cwd ?? "",
            User = request.User ?? "",
            TimeoutMs = (ulong)(request.Timeout?.TotalMilliseconds ?? 0),
            GraceMs = (ulong)(request.Grace?.TotalMilliseconds ?? 0),
        };
        if (request.Artifacts ?? request.Code is not null)
        {
            start.Artifacts = new WatchArtifacts { Limit = (uint)artifactLimit };
        }

        foreach (var (name, value) in request.Env)
        {
            start.Env[name] = value;
        }

        if (request.Code is not null)
        {
            start.Code = new Code { ContextId = request.ContextId ?? "", Source = request.Code };
            return start;
        }

        start.Command = new Command { OpenStdin = request.OpenStdin || request.Pty is not null };
        if (request.Pty is { } size)
        {
            start.Command.Pty = new PtySize { Columns = (uint)size.Columns, Rows = (uint)size.Rows };
        }

        start.Command.Argv.AddRange(request.Shell is { } line ? ["/bin/bash", "-l", "-c", line] : request.Argv!);
        return start;
    }

    /// <summary>What a caller is told when the guest refuses.</summary>
    public static SandboxException ToSandbox(GuestException e) => e.Code switch
    {
        ErrorCode.InvalidArgument => new(SandboxErrorCode.InvalidArgument, e.Message),
        ErrorCode.NotADirectory or ErrorCode.IsADirectory => new(SandboxErrorCode.InvalidArgument, e.Message, "path"),
        ErrorCode.NotFound => SandboxException.NotFound(e.Message),
        ErrorCode.AlreadyExists => new(SandboxErrorCode.AlreadyExists, e.Message),
        ErrorCode.PermissionDenied => new(SandboxErrorCode.PermissionDenied, e.Message),
        ErrorCode.NotEmpty or ErrorCode.Conflict => SandboxException.Conflict(e.Message),
        ErrorCode.DiskFull => new(SandboxErrorCode.DiskFull, e.Message),
        ErrorCode.ResourceExhausted => new(SandboxErrorCode.ResourceExhausted, e.Message),
        ErrorCode.Unsupported => new(SandboxErrorCode.Unsupported, e.Message),
        _ => new(SandboxErrorCode.Internal, "The guest agent failed: " + e.Message),
    };
}
