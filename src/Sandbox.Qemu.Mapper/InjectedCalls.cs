using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Sandbox.Qemu.Mapper;

/// <summary>
/// Mappings that another process is made to make (ptrace): its first thread stands still meanwhile, makes the system calls one by one, and goes on where it stood as if nothing had been. QEMU has no command that changes
/// what its guest's memory is mapped from; this is how it is done nevertheless. x86-64 only, and all from one and the same thread, which is the kernel's rule for tracers.
/// </summary>
internal sealed unsafe partial class InjectedCalls : IDisposable
{
    private const int SingleStep = 9;
    private const int GetRegisters = 12;
    private const int SetRegisters = 13;
    private const int Continue = 7;
    private const int Detach = 17;
    private const int SetOptions = 0x4200;
    private const int Seize = 0x4206;
    private const int Interrupt = 0x4207;

    /// <summary>Should this process die in between, the other one must not go on with registers that are not its own.</summary>
    private const int KillWithTracer = 0x100000;

    /// <summary>The number of mmap.</summary>
    private const ulong MapMemory = 9;
    private const ulong ReadWrite = 3;
    private const ulong PrivateFixed = 2 | 0x10;

    private const int TrapSignal = 5;
    private const int StopEvent = 128;
    private const int ByPid = 1;
    private const int WaitStopped = 2;
    private const int WaitExited = 4;
    private const int WaitAnyKind = 0x40000000;
    private const int Trapped = 4;
    private const int Stopped = 5;
    private const int LargestError = 4095;
    private const ulong MostCode = 1 << 16;
    private readonly int _pid;
    private readonly ulong _instruction;
    private readonly Registers _before;
    private readonly List<int> _signals = [];
    private bool _ended;

    /// <summary>Stops a process. It goes on when this is disposed, whatever happened.</summary>
    /// <param name="pid">A process that this one may trace: with CAP_SYS_PTRACE any.</param>
    /// <exception cref="MapperException">It cannot be traced, or is gone.</exception>
    public InjectedCalls(int pid)
    {
        _pid = pid;
        Require(Trace(Seize, pid, 0, 0), "attach to it");
        try
        {
            Require(Trace(Interrupt, pid, 0, 0), "stop it");
            for (int status; (status = Wait()) >> 8 != StopEvent;)
            {
                // On its way to a signal: it gets it, and stops then.
                Require(Trace(Continue, pid, 0, status & 0xFF), "let it have a signal");
            }

            Registers before = default;
            Require(Trace(GetRegisters, pid, 0, (nint)(&before)), "read its registers");
            (_before, _instruction) = (before, FindInstruction(pid));
            Require(Trace(SetOptions, pid, 0, KillWithTracer), "bind it to this process");
        }
        catch
        {
            Release();
            throw;
        }
    }

    /// <summary>Whether the processor is one whose calls are known here.</summary>
    public static bool Supported => RuntimeInformation.ProcessArchitecture == Architecture.X64;

    /// <summary>Has it map a piece of a file privately, for reading and writing, in place of what is there.</summary>
    /// <exception cref="MapperException">It could not, or is gone.</exception>
    public void MapPrivately(MapPiece piece, int descriptor)
    {
        var registers = _before;

        // No call was interrupted: the kernel has nothing to begin again when this one returns.
        (registers.Rax, registers.OriginalRax, registers.Rip) = (MapMemory, ulong.MaxValue, _instruction);
        (registers.Rdi, registers.Rsi, registers.Rdx) = ((ulong)piece.Address, (ulong)piece.Length, ReadWrite);
        (registers.R10, registers.R8, registers.R9) = (PrivateFixed, (ulong)descriptor, (ulong)piece.Offset);
        Require(Trace(SetRegisters, _pid, 0, (nint)(&registers)), "set its registers");
        do
        {
            Require(Trace(SingleStep, _pid, 0, 0), "let it make a call");
        }
        while (IsOther(Wait()));

        Require(Trace(GetRegisters, _pid, 0, (nint)(&registers)), "read its registers");
        var result = (long)registers.Rax;
        if (registers.Rip != _instruction + 2)
        {
            throw new MapperException($"Process {_pid} did not make the call that it was to make.");
        }

        if (result is < 0 and >= -LargestError)
        {
            throw new MapperException($"Process {_pid} could not map {piece.Length} bytes: {Marshal.GetPInvokeErrorMessage((int)-result)}");
        }
    }

    public void Dispose()
    {
        var before = _before;
        _ = Trace(SetRegisters, _pid, 0, (nint)(&before));
        Release();
        foreach (var signal in _signals)
        {
            _ = SendSignal(_pid, _pid, signal);
        }
    }

    /// <summary>A signal came between: it gets it when it goes on by itself.</summary>
    private bool IsOther(int status)
    {
        if (status == TrapSignal)
        {
            return false;
        }

        if (status >> 8 == 0)
        {
            _signals.Add(status);
        }

        return true;
    }

    /// <summary>Lets it go. One that was killed meanwhile is waited for: until then whoever started it would not hear of its end.</summary>
    private void Release()
    {
        while (!_ended && Trace(Detach, _pid, 0, 0) != 0)
        {
            try
            {
                Wait();
            }
            catch (MapperException)
            {
                return;
            }
        }
    }

    /// <summary>Why it stopped.</summary>
    private int Wait()
    {
        var info = stackalloc int[32];
        Require(WaitFor(ByPid, _pid, info, WaitStopped | WaitExited | WaitAnyKind, 0), "wait for it");
        _ended = info[2] is not (Trapped or Stopped);
        return _ended ? throw new MapperException($"Process {_pid} has ended.") : info[6];
    }

    /// <summary>Where a system call instruction stands: the kernel puts one into every process, in its vDSO.</summary>
    private static ulong FindInstruction(int pid)
    {
        var directory = string.Create(CultureInfo.InvariantCulture, $"/proc/{pid}");
        var line = File.ReadLines(directory + "/maps").FirstOrDefault(l => l.EndsWith("[vdso]", StringComparison.Ordinal));
        if (line is not null)
        {
            var range = line.Split(' ', 2)[0].Split('-');
            var (begin, end) = (ulong.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture), ulong.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
            using var memory = File.OpenHandle(directory + "/mem", FileMode.Open, FileAccess.Read, FileShare.ReadWrite);

            // It is two pages; a process may name a mapping of its own as it likes.
            var code = new byte[Math.Min(end - begin, MostCode)];
            var read = RandomAccess.Read(memory, code, (long)begin);
            for (var i = 0; i + 1 < read; i++)
            {
                if (BinaryPrimitives.ReadUInt16BigEndian(code.AsSpan(i)) == 0x0F05)
                {
                    return begin + (ulong)i;
                }
            }
        }

        throw new MapperException($"Process {pid} has no system call instruction where one is expected.");
    }

    private void Require(nint result, string what)
    {
        if (result != 0)
        {
            throw new MapperException($"Process {_pid} cannot be traced ({what}): {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    [LibraryImport("libc", EntryPoint = "ptrace", SetLastError = true)]
    private static partial nint Trace(long request, int pid, nint address, nint data);

    [LibraryImport("libc", EntryPoint = "waitid", SetLastError = true)]
    private static partial int WaitFor(int kind, int id, int* info, int options, nint usage);

    [LibraryImport("libc", EntryPoint = "tgkill")]
    private static partial int SendSignal(int process, int thread, int signal);

    /// <summary>struct user_regs_struct of x86-64.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct Registers
    {
        public ulong R15, R14, R13, R12, Rbp, Rbx, R11, R10, R9, R8, Rax, Rcx, Rdx, Rsi, Rdi, OriginalRax, Rip, Cs, Flags, Rsp, Ss, FsBase, GsBase, Ds, Es, Fs, Gs;
    }
}
