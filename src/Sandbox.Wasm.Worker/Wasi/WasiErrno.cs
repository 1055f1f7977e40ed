using Sandbox.Wasm.Worker.Volume;

namespace Sandbox.Wasm.Worker.Wasi;

/// <summary>Error numbers of WASI preview 1.</summary>
internal enum WasiErrno
{
    Success = 0,
    Access = 2,
    Again = 6,
    BadDescriptor = 8,
    Busy = 10,
    Exists = 20,
    Fault = 21,
    TooBig = 22,
    IllegalSequence = 25,
    Interrupted = 27,
    Invalid = 28,
    Io = 29,
    IsDirectory = 31,
    Loop = 32,
    TooManyFiles = 33,
    NameTooLong = 37,
    NoEntry = 44,
    NoSpace = 51,
    NoSystemCall = 52,
    NotDirectory = 54,
    NotEmpty = 55,
    NotSocket = 57,
    NotSupported = 58,
    NotPermitted = 63,
    Pipe = 64,
    ReadOnly = 69,
    SeekOnPipe = 70,
}

/// <summary>A call of a guest that fails with an error number.</summary>
internal sealed class WasiException(WasiErrno errno) : Exception(errno.ToString())
{
    public WasiErrno Errno { get; } = errno;

    public static WasiErrno Of(Errno errno) => errno switch
    {
        Volume.Errno.NotPermitted => WasiErrno.NotPermitted,
        Volume.Errno.NoEntry => WasiErrno.NoEntry,
        Volume.Errno.BadDescriptor => WasiErrno.BadDescriptor,
        Volume.Errno.AccessDenied => WasiErrno.Access,
        Volume.Errno.Busy => WasiErrno.Busy,
        Volume.Errno.Exists => WasiErrno.Exists,
        Volume.Errno.NotDirectory => WasiErrno.NotDirectory,
        Volume.Errno.IsDirectory => WasiErrno.IsDirectory,
        Volume.Errno.Invalid => WasiErrno.Invalid,
        Volume.Errno.TooManyFiles => WasiErrno.TooManyFiles,
        Volume.Errno.TooBig => WasiErrno.TooBig,
        Volume.Errno.NoSpace => WasiErrno.NoSpace,
        Volume.Errno.BadSeek => WasiErrno.SeekOnPipe,
        Volume.Errno.ReadOnly => WasiErrno.ReadOnly,
        Volume.Errno.NameTooLong => WasiErrno.NameTooLong,
        Volume.Errno.NotEmpty => WasiErrno.NotEmpty,
        Volume.Errno.TooManyLinks => WasiErrno.Loop,
        Volume.Errno.IllegalName => WasiErrno.IllegalSequence,
        Volume.Errno.NotSupported => WasiErrno.NotSupported,
        _ => WasiErrno.Io,
    };
}
