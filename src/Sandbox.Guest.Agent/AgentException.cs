using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent;

/// <summary>Why a request cannot be served; becomes the <see cref="Error"/> of its response.</summary>
internal sealed class AgentException(ErrorCode code, string message, int errno = 0) : Exception(message)
{
    public ErrorCode Code { get; } = code;

    public int Errno { get; } = errno;

    /// <summary>The error of a failed system call.</summary>
    public static AgentException FromErrno(int errno, string what) => new(
        errno switch
        {
            Native.NoEntry => ErrorCode.NotFound,
            1 or Native.AccessDenied or 30 => ErrorCode.PermissionDenied,
            17 => ErrorCode.AlreadyExists,
            20 => ErrorCode.NotADirectory,
            21 => ErrorCode.IsADirectory,
            22 or 36 or 40 => ErrorCode.InvalidArgument,
            39 => ErrorCode.NotEmpty,
            Native.NoSpace or 122 => ErrorCode.DiskFull,
            11 or 12 or 23 or 24 => ErrorCode.ResourceExhausted,
            _ => ErrorCode.Internal,
        },
        $"{what}: {Native.Describe(errno)}",
        errno);
}
