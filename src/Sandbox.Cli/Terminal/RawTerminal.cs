using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Cli.Terminal;

/// <summary>Puts the terminal into raw mode, so that every key (Ctrl-C too) goes to the session; disposing puts it back.</summary>
internal sealed partial class RawTerminal : IDisposable
{
    private const int Now = 0;

    // struct termios of glibc on Linux has 60 bytes; more room does no harm.
    private const int TermiosBytes = 128;
    private readonly byte[] _before;
    private bool _restored;

    private RawTerminal(byte[] before)
    {
        _before = before;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Dispose();
    }

    /// <summary>Enters raw mode.</summary>
    public static RawTerminal Enter()
    {
        var before = new byte[TermiosBytes];
        if (GetAttributes(0, before) != 0)
        {
            throw new UserException("standard input is not a terminal");
        }

        var raw = (byte[])before.Clone();
        MakeRaw(raw);
        if (SetAttributes(0, Now, raw) != 0)
        {
            throw new UserException("the terminal cannot be put into raw mode");
        }

        return new RawTerminal(before);
    }

    /// <summary>Standard input without the line discipline that .NET's console puts on top.</summary>
    public static FileStream OpenInput() => new(new SafeFileHandle(0, ownsHandle: false), FileAccess.Read, bufferSize: 0);

    public void Dispose()
    {
        if (!_restored)
        {
            _restored = true;
            _ = SetAttributes(0, Now, _before);
        }
    }

    [LibraryImport("libc", EntryPoint = "tcgetattr")]
    private static partial int GetAttributes(int descriptor, [Out] byte[] attributes);

    [LibraryImport("libc", EntryPoint = "tcsetattr")]
    private static partial int SetAttributes(int descriptor, int when, [In] byte[] attributes);

    [LibraryImport("libc", EntryPoint = "cfmakeraw")]
    private static partial void MakeRaw([In, Out] byte[] attributes);
}
