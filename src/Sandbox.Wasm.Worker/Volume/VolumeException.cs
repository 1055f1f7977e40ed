namespace Sandbox.Wasm.Worker.Volume;

/// <summary>Why the file system refuses something. The numbers are Linux's, because the host's protocol speaks them.</summary>
internal enum Errno
{
    NotPermitted = 1,
    NoEntry = 2,
    Io = 5,
    BadDescriptor = 9,
    AccessDenied = 13,
    Busy = 16,
    Exists = 17,
    NotDirectory = 20,
    IsDirectory = 21,
    Invalid = 22,
    TooManyFiles = 24,
    TooBig = 27,
    NoSpace = 28,
    BadSeek = 29,
    ReadOnly = 30,
    NameTooLong = 36,
    NotEmpty = 39,
    TooManyLinks = 40,
    IllegalName = 84,
    NotSupported = 95,
}

/// <summary>A file operation that fails as a system call would.</summary>
internal sealed class VolumeException(Errno errno, string? what = null) : Exception(Describe(errno, what))
{
    public Errno Errno { get; } = errno;

    private static string Describe(Errno errno, string? what)
    {
        var text = errno switch
        {
            Errno.NotPermitted => "Operation not permitted",
            Errno.NoEntry => "No such file or directory",
            Errno.BadDescriptor => "Bad file descriptor",
            Errno.AccessDenied => "Permission denied",
            Errno.Busy => "Device or resource busy",
            Errno.Exists => "File exists",
            Errno.NotDirectory => "Not a directory",
            Errno.IsDirectory => "Is a directory",
            Errno.Invalid => "Invalid argument",
            Errno.TooManyFiles => "Too many open files",
            Errno.TooBig => "File too large",
            Errno.NoSpace => "No space left on device",
            Errno.BadSeek => "Illegal seek",
            Errno.ReadOnly => "Read-only file system",
            Errno.NameTooLong => "File name too long",
            Errno.NotEmpty => "Directory not empty",
            Errno.TooManyLinks => "Too many levels of symbolic links",
            Errno.IllegalName => "The name is not UTF-8",
            Errno.NotSupported => "Operation not supported",
            _ => "Input/output error",
        };
        return what is null ? text : $"{what}: {text}";
    }
}
