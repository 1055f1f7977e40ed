using Sandbox.Guest.Protocol;
using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker;

/// <summary>Why a request cannot be served; becomes the <see cref="Error"/> of its response.</summary>
internal sealed class WorkerException(ErrorCode code, string message, int errno = 0) : Exception(message)
{
    public ErrorCode Code { get; } = code;

    public int Errno { get; } = errno;

    /// <summary>The error of a file operation.</summary>
    public static WorkerException Of(VolumeException e, string what) => new(
        e.Errno switch
        {
            Volume.Errno.NoEntry => ErrorCode.NotFound,
            Volume.Errno.NotPermitted or Volume.Errno.AccessDenied or Volume.Errno.ReadOnly => ErrorCode.PermissionDenied,
            Volume.Errno.Exists => ErrorCode.AlreadyExists,
            Volume.Errno.NotDirectory => ErrorCode.NotADirectory,
            Volume.Errno.IsDirectory => ErrorCode.IsADirectory,
            Volume.Errno.Invalid or Volume.Errno.NameTooLong or Volume.Errno.TooManyLinks or Volume.Errno.TooBig or Volume.Errno.Busy or Volume.Errno.IllegalName => ErrorCode.InvalidArgument,
            Volume.Errno.NotEmpty => ErrorCode.NotEmpty,
            Volume.Errno.NoSpace => ErrorCode.DiskFull,
            Volume.Errno.TooManyFiles => ErrorCode.ResourceExhausted,
            Volume.Errno.NotSupported => ErrorCode.Unsupported,
            _ => ErrorCode.Internal,
        },
        $"{what}: {e.Message}",
        (int)e.Errno);
}
