using Google.Protobuf;
using Sandbox.Abstractions;
using Sandbox.E2b.Protos.Process;

namespace Sandbox.E2b.Envd.Process;

/// <summary>Output events as process events.</summary>
internal static class ProcessEvents
{
    /// <summary>What E2B says for a process that did not exit by itself.</summary>
    private const int NoExitCode = -1;

    /// <summary>A message that says nothing.</summary>
    public static ProcessEvent KeepAlive { get; } = new() { Keepalive = new ProcessEvent.Types.KeepAlive() };

    /// <summary>The first event.</summary>
    public static ProcessEvent Start(int pid) => new() { Start = new ProcessEvent.Types.StartEvent { Pid = (uint)pid } };

    /// <summary>What an event of the log becomes; <see langword="null"/>: nothing that a process says.</summary>
    /// <exception cref="SandboxException"><see cref="SandboxErrorCode.DeadlineExceeded"/>: the process was ended because its time had passed.</exception>
    public static ProcessEvent? Of(OutputEvent output, bool hasTerminal) => output.Kind switch
    {
        OutputKind.Stdout => Data(new ProcessEvent.Types.DataEvent { Stdout = Bytes(output.Data) }),
        OutputKind.Stderr => Data(new ProcessEvent.Types.DataEvent { Stderr = Bytes(output.Data) }),
        OutputKind.Pty => Data(new ProcessEvent.Types.DataEvent { Pty = Bytes(output.Data) }),

        // What the system has to say stands where a person will see it: a terminal has no standard error.
        OutputKind.Notice when hasTerminal => Data(new ProcessEvent.Types.DataEvent { Pty = Bytes([.. "\r\n"u8, .. output.Data, .. "\r\n"u8]) }),
        OutputKind.Notice => Data(new ProcessEvent.Types.DataEvent { Stderr = Bytes([.. output.Data, (byte)'\n']) }),
        OutputKind.Exit => new ProcessEvent { End = End(output.ReadExit()) },
        _ => null,
    };

    private static ProcessEvent Data(ProcessEvent.Types.DataEvent data) => new() { Data = data };

    private static ByteString Bytes(byte[] data) => UnsafeByteOperations.UnsafeWrap(data);

    private static ProcessEvent.Types.EndEvent End(ExecutionExit exit)
    {
        var end = new ProcessEvent.Types.EndEvent { ExitCode = NoExitCode };
        switch (exit.Reason)
        {
            case ExitReason.TimedOut:
                throw new SandboxException(SandboxErrorCode.DeadlineExceeded, "The process was ended: " + exit.Message);
            case ExitReason.Lost or ExitReason.NotStarted:
                end.Status = exit.Reason == ExitReason.Lost ? "lost" : "not started";
                end.Error = exit.Message;
                break;
            case var _ when exit.Signal != 0:
                end.Status = "signal: " + NameOf(exit.Signal);
                end.Error = exit.Reason == ExitReason.OutOfMemory ? $"{end.Status} ({exit.Message})" : end.Status;
                break;
            default:
                end.ExitCode = exit.ExitCode;
                end.Exited = true;
                end.Status = $"exit status {exit.ExitCode}";
                if (exit.ExitCode != 0)
                {
                    end.Error = exit.Reason == ExitReason.OutOfMemory ? $"{end.Status} ({exit.Message})" : end.Status;
                }

                break;
        }

        return end;
    }

    /// <summary>Signals as strsignal calls them, in lower case.</summary>
    private static string NameOf(int signal) => signal switch
    {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        5 => "trace/breakpoint trap",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        10 => "user defined signal 1",
        11 => "segmentation fault",
        12 => "user defined signal 2",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        _ => $"signal {signal}",
    };
}
