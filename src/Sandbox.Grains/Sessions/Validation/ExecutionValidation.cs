using System.Text;
using System.Text.RegularExpressions;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Sessions.Validation;

/// <summary>Checks an execution's request, and paths and users wherever they occur.</summary>
internal static partial class ExecutionValidation
{
    private const int MaxCommandBytes = 128 * 1024;
    private const int MaxCodeBytes = 256 * 1024;
    private const int MaxPathBytes = 4096;
    private const int MaxTagLength = 128;
    private static readonly TimeSpan MaxGrace = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan MaxTimeout = TimeSpan.FromDays(30);

    public static void Check(ExecutionRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        var kinds = (request.Argv is null ? 0 : 1) + (request.Shell is null ? 0 : 1) + (request.Code is null ? 0 : 1);
        if (kinds != 1)
        {
            throw SandboxException.Invalid("argv", $"Exactly one of argv, shell and code must be set; {kinds} are.");
        }

        CheckArgv(request.Argv);
        CheckText("shell", request.Shell, MaxCommandBytes, allowNul: false);
        CheckText("code", request.Code, MaxCodeBytes, allowNul: true);
        CheckCodeOnly(request);
        SessionValidation.CheckEnv("env", request.Env);
        if (request.Cwd is not null)
        {
            CheckPath("cwd", request.Cwd);
        }

        CheckUser("user", request.User);
        if (request.Tag is { } tag && (tag.Length is 0 or > MaxTagLength || tag.Any(char.IsControl)))
        {
            throw SandboxException.Invalid("tag", $"A tag has 1 to {MaxTagLength} printable characters.");
        }

        if (request.Timeout is { } timeout && (timeout < TimeSpan.FromMilliseconds(1) || timeout > MaxTimeout))
        {
            throw SandboxException.Invalid("timeoutSeconds", $"{timeout} is outside 1 ms to {MaxTimeout}.");
        }

        if (request.Grace is { } grace && (grace < TimeSpan.FromMilliseconds(1) || grace > MaxGrace))
        {
            throw SandboxException.Invalid("graceSeconds", $"{grace} is outside 1 ms to {MaxGrace}.");
        }

        if (request.Pty is { } size)
        {
            CheckTerminal("pty", size);
        }

        if (request.OutputLimitBytes is { } limit and (< 1 or > 1L << 34))
        {
            throw SandboxException.Invalid("outputLimitBytes", $"{limit} is outside 1 to {1L << 34}.");
        }
    }

    public static void CheckTerminal(string field, TerminalSize size)
    {
        if (size.Columns is < 1 or > 1000 || size.Rows is < 1 or > 1000)
        {
            throw SandboxException.Invalid(field, $"A terminal has 1 to 1000 columns and rows, not {size.Columns} x {size.Rows}.");
        }
    }

    public static void CheckPath(string field, string? path)
    {
        if (string.IsNullOrEmpty(path))
        {
            throw SandboxException.Invalid(field, "A path is needed.");
        }

        if (path.Contains('\0', StringComparison.Ordinal))
        {
            throw SandboxException.Invalid(field, "A path must not contain a NUL character.");
        }

        if (path.Length > MaxPathBytes || Encoding.UTF8.GetByteCount(path) > MaxPathBytes)
        {
            throw SandboxException.Invalid(field, $"A path has at most {MaxPathBytes} bytes.");
        }
    }

    public static void CheckUser(string field, string? user)
    {
        if (user is not null && !UserName().IsMatch(user))
        {
            throw SandboxException.Invalid(field, "A user is named by 1 to 32 lower-case letters, digits, hyphens and underscores, beginning with a letter or underscore.");
        }
    }

    private static void CheckCodeOnly(ExecutionRequest request)
    {
        if (request.Code is null)
        {
            if (request.ContextId is not null || request.Language is not null)
            {
                throw SandboxException.Invalid(request.ContextId is not null ? "contextId" : "language", "Only code runs in a context; a command does not.");
            }

            return;
        }

        if (request.Pty is not null || request.OpenStdin)
        {
            throw SandboxException.Invalid(request.Pty is not null ? "pty" : "openStdin", "Code runs in a context, without terminal and without standard input.");
        }

        if (request.ContextId is not null && request.Language is not null)
        {
            throw SandboxException.Invalid("language", "A context has its language already: name one of contextId and language.");
        }

        if (request.ContextId is { } context && !SandboxIds.IsContext(context))
        {
            throw SandboxException.Invalid("contextId", "That is not a context id.");
        }
    }

    private static void CheckArgv(IReadOnlyList<string>? argv)
    {
        if (argv is null)
        {
            return;
        }

        if (argv.Count is 0 or > 4096 || string.IsNullOrEmpty(argv[0]))
        {
            throw SandboxException.Invalid("argv", "argv has 1 to 4096 entries, and its first names a program.");
        }

        if (argv.Any(a => a is null || a.Contains('\0', StringComparison.Ordinal)))
        {
            throw SandboxException.Invalid("argv", "An argument is null or contains a NUL character.");
        }

        if (argv.Sum(a => (long)Encoding.UTF8.GetByteCount(a) + 1) > MaxCommandBytes)
        {
            throw SandboxException.Invalid("argv", $"argv has more than {MaxCommandBytes} bytes in all.");
        }
    }

    private static void CheckText(string field, string? text, int most, bool allowNul)
    {
        if (text is null)
        {
            return;
        }

        if (Encoding.UTF8.GetByteCount(text) > most)
        {
            throw SandboxException.Invalid(field, $"{field} has more than {most} bytes. Write it to a file and run that.");
        }

        if (!allowNul && text.Contains('\0', StringComparison.Ordinal))
        {
            throw SandboxException.Invalid(field, $"{field} contains a NUL character.");
        }
    }

    [GeneratedRegex(@"\A[a-z_][a-z0-9_-]{0,31}\z")]
    private static partial Regex UserName();
}
