namespace Sandbox.Abstractions;

/// <summary>What kind of error a call ended with. The HTTP facade maps each to one status code.</summary>
[GenerateSerializer, Alias("sandbox.error-code")]
public enum SandboxErrorCode
{
    /// <summary>A value in the request is wrong; <see cref="SandboxException.Field"/> names it. HTTP 400.</summary>
    InvalidArgument = 0,

    /// <summary>The named thing does not exist, or belongs to another tenant. HTTP 404.</summary>
    NotFound = 1,

    /// <summary>It exists already. HTTP 409.</summary>
    AlreadyExists = 2,

    /// <summary>The thing is not in a state that allows this (for example a terminated session). HTTP 409.</summary>
    Conflict = 3,

    /// <summary>Not allowed: to the tenant, or to the user inside the guest. HTTP 403.</summary>
    PermissionDenied = 4,

    /// <summary>No credentials, or wrong ones. HTTP 401.</summary>
    Unauthenticated = 5,

    /// <summary>A quota, a capacity or a limit is used up; trying later may help. HTTP 429.</summary>
    ResourceExhausted = 6,

    /// <summary>No host or guest can serve the call now; trying again is safe. HTTP 503.</summary>
    Unavailable = 7,

    /// <summary>It took longer than allowed. HTTP 504.</summary>
    DeadlineExceeded = 8,

    /// <summary>The body or file is larger than allowed. HTTP 413.</summary>
    TooLarge = 9,

    /// <summary>The guest's writable disk is full. HTTP 507.</summary>
    DiskFull = 10,

    /// <summary>What is asked is not supported by this backend or template. HTTP 422.</summary>
    Unsupported = 11,

    /// <summary>A fault of ours. HTTP 500.</summary>
    Internal = 12,
}

/// <summary>
/// The one exception type that crosses a grain boundary on purpose. The message says what happened, to what, and what to do.
/// </summary>
[GenerateSerializer, Alias("sandbox.exception")]
public sealed class SandboxException : Exception
{
    /// <summary>Makes an error of a kind.</summary>
    /// <param name="code">Its kind.</param>
    /// <param name="message">For people: what happened, to what, what to do.</param>
    /// <param name="field">The request field at fault, in the spelling of the JSON API (for example <c>memoryMiB</c>), or <see langword="null"/>.</param>
    public SandboxException(SandboxErrorCode code, string message, string? field = null)
        : base(message)
    {
        Code = code;
        Field = field;
    }

    /// <summary>What kind of error.</summary>
    [Id(0)]
    public SandboxErrorCode Code { get; }

    /// <summary>The request field at fault, or <see langword="null"/>.</summary>
    [Id(1)]
    public string? Field { get; }

    /// <summary>A wrong value in a request.</summary>
    public static SandboxException Invalid(string field, string message) => new(SandboxErrorCode.InvalidArgument, message, field);

    /// <summary>Something that does not exist.</summary>
    public static SandboxException NotFound(string message) => new(SandboxErrorCode.NotFound, message);

    /// <summary>A state that does not allow the call.</summary>
    public static SandboxException Conflict(string message) => new(SandboxErrorCode.Conflict, message);

    /// <summary>Nobody can serve the call now.</summary>
    public static SandboxException Unavailable(string message) => new(SandboxErrorCode.Unavailable, message);
}
