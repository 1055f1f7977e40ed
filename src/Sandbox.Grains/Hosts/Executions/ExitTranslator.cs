using System.Globalization;
using Sandbox.Abstractions;
using Sandbox.Guest.Protocol;

namespace Sandbox.Grains.Hosts.Executions;

/// <summary>What the host knows of an execution besides what the guest says.</summary>
internal sealed record ExecutionFacts
{
    public TimeSpan? Timeout { get; init; }

    public TimeSpan Grace { get; init; } = TimeSpan.FromMilliseconds(ProtocolLimits.DefaultGraceMs);

    /// <summary>Signals that callers sent, in order.</summary>
    public IReadOnlyList<int> Signals { get; init; } = [];

    public bool IsCode { get; init; }

    public int MemoryMiB { get; init; }

    public long OutputBytes { get; init; }

    public long DroppedBytes { get; init; }

    public long OutputLimit { get; init; }

    /// <summary>User whom it runs as; empty: the template's default user. Its files are read with that user's rights.</summary>
    public string User { get; init; } = "";
}

/// <summary>Turns the guest's last event and the host's own knowledge into a truthful exit.</summary>
internal static class ExitTranslator
{
    public static ExecutionExit FromGuest(Exited guest, ExecutionFacts facts)
    {
        // The guest is hostile: numbers are brought into their range before anybody computes with them.
        var signal = Math.Clamp(guest.Signal, 0, 64);
        var code = signal > 0 ? Math.Min(128 + signal, 255) : Math.Clamp(guest.ExitCode, 0, 255);
        var (reason, message) = Judge(guest, facts, signal, code);
        return new ExecutionExit
        {
            Reason = reason,
            ExitCode = code,
            Signal = signal,
            Message = message + Remarks(guest, facts),
            ProcessLimitHit = guest.PidsLimitHit,
            DiskFull = guest.DiskFull,
            ContextLost = guest.ContextLost,
            OutputBytes = facts.OutputBytes,
            DroppedBytes = facts.DroppedBytes,
            WallTime = Milliseconds(guest.WallMs),
            CpuTime = Milliseconds(guest.CpuMs),
            PeakMemoryBytes = (long)Math.Min(guest.PeakMemoryBytes, long.MaxValue),
        };
    }

    /// <summary>The exit of an execution whose microVM or host went away under it.</summary>
    public static ExecutionExit Lost(string why, ExecutionFacts facts, TimeSpan wall) => new()
    {
        Reason = ExitReason.Lost,
        ExitCode = 137,
        Signal = 9,
        Message = $"lost: {why}",
        ContextLost = facts.IsCode,
        OutputBytes = facts.OutputBytes,
        DroppedBytes = facts.DroppedBytes,
        WallTime = wall,
    };

    /// <summary>The exit of an execution that the guest refused to start.</summary>
    public static ExecutionExit NotStarted(string why) => new() { Reason = ExitReason.NotStarted, ExitCode = 127, Message = "not started: " + why };

    private static (ExitReason Reason, string Message) Judge(Exited guest, ExecutionFacts facts, int signal, int code)
    {
        if (guest.TimedOut)
        {
            var limit = facts.Timeout is { } timeout ? $"the timeout of {Seconds(timeout)} had passed" : "its timeout had passed";
            var first = facts.IsCode ? "the interrupt" : "SIGTERM";
            return (ExitReason.TimedOut, signal switch
            {
                9 => $"killed by SIGKILL {Seconds(facts.Grace)} after {first}: {limit}",
                > 0 => $"ended by {Name(signal)}: {limit}",
                _ => $"ended with exit code {code} after {first}: {limit}",
            });
        }

        if (guest.OutOfMemory && (signal == 9 || code != 0 || guest.ContextLost))
        {
            var size = facts.MemoryMiB > 0 ? $" (the session has {facts.MemoryMiB} MiB)" : "";
            return (ExitReason.OutOfMemory, signal > 0
                ? $"killed by {Name(signal)}: out of memory{size}"
                : $"exit code {code}: the kernel killed one of its processes, out of memory{size}");
        }

        if (signal > 0)
        {
            return facts.Signals.Contains(signal)
                ? (ExitReason.Killed, $"ended by {Name(signal)}, sent by a caller")
                : (ExitReason.Signaled, $"ended by {Name(signal)}");
        }

        var ended = facts.Signals.Count > 0
            ? $"ended with exit code {code} after a caller sent {string.Join(", ", facts.Signals.Distinct().Select(Name))}"
            : $"exit code {code}";
        return (ExitReason.Exited, ended);
    }

    private static string Remarks(Exited guest, ExecutionFacts facts)
    {
        var remarks = "";
        if (guest.OutOfMemory && !guest.TimedOut && guest.Signal == 0 && guest.ExitCode == 0 && !guest.ContextLost)
        {
            remarks += "; the kernel killed one of its processes, out of memory";
        }

        if (guest.PidsLimitHit)
        {
            remarks += "; it hit the limit of processes";
        }

        if (guest.DiskFull)
        {
            remarks += "; the disk was full";
        }

        if (guest.ContextLost)
        {
            remarks += "; the context's interpreter ended and its variables are gone";
        }

        if (facts.DroppedBytes > 0)
        {
            remarks += string.Create(CultureInfo.InvariantCulture, $"; {facts.DroppedBytes} bytes of output beyond the limit of {facts.OutputLimit} were dropped");
        }

        return remarks;
    }

    private static TimeSpan Milliseconds(ulong value) => TimeSpan.FromMilliseconds(Math.Min(value, (ulong)TimeSpan.FromDays(3650).TotalMilliseconds));

    private static string Seconds(TimeSpan time) => time.TotalSeconds.ToString("0.###", CultureInfo.InvariantCulture) + " s";

    internal static string Name(int signal) => signal switch
    {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => $"signal {signal}",
    };
}
