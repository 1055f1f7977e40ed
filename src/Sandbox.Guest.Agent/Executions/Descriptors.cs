using System.Text;
using Sandbox.Guest.Agent.Platform;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Executions;

/// <summary>Pipes and terminals as plain descriptors.</summary>
internal static unsafe class Descriptors
{
    /// <summary>A close-on-exec pipe that belongs to a user, who can then open it again as /dev/stdin, /dev/stdout or /dev/stderr.</summary>
    public static (int Read, int Write) Pipe(User owner)
    {
        var fds = stackalloc int[2];
        if (Native.Pipe(fds, Native.CloseOnExec) != 0)
        {
            throw AgentException.FromErrno(Native.Errno, "Cannot make a pipe");
        }

        if (User.CanSwitch)
        {
            _ = Native.ChangeOwner(fds[0], owner.Uid, owner.Gid);
        }

        return (fds[0], fds[1]);
    }

    /// <summary>A terminal: the agent's end and the process's.</summary>
    public static (int Master, int Slave) Terminal(PtySize size, User user)
    {
        var master = Native.OpenPty(Native.ReadWrite | Native.NoCtty | Native.CloseOnExec);
        var name = stackalloc byte[64];
        if (master < 0 || Native.GrantPty(master) != 0 || Native.UnlockPty(master) != 0 || Native.PtyName(master, name, 64) != 0)
        {
            var errno = Native.Errno;
            if (master >= 0)
            {
                Native.Close(master);
            }

            throw AgentException.FromErrno(errno, "Cannot make a terminal");
        }

        Resize(master, size);
        var slave = Native.Open(Encoding.UTF8.GetString(name, new ReadOnlySpan<byte>(name, 64).IndexOf((byte)0)), Native.ReadWrite | Native.NoCtty | Native.CloseOnExec, 0);
        if (slave < 0)
        {
            Native.Close(master);
            throw AgentException.FromErrno(Native.Errno, "Cannot open the terminal");
        }

        if (User.CanSwitch)
        {
            // A user must be able to open their own terminal again by its name.
            _ = Native.ChangeOwner(slave, user.Uid, user.Gid);
        }

        return (master, slave);
    }

    public static void Resize(int master, PtySize size)
    {
        var window = stackalloc ushort[4];
        window[0] = (ushort)Math.Clamp(size.Rows, 1, 1000);
        window[1] = (ushort)Math.Clamp(size.Columns, 1, 1000);
        window[2] = window[3] = 0;
        _ = Native.IoControl(master, Native.SetWindowSize, window);
    }

    /// <summary>A second, close-on-exec descriptor of the same thing.</summary>
    public static int Duplicate(int fd)
    {
        var copy = Native.FileControl(fd, Native.DuplicateCloseOnExec, 0);
        return copy >= 0 ? copy : throw AgentException.FromErrno(Native.Errno, "Cannot duplicate a descriptor");
    }

    public static int Null() => Native.Open("/dev/null", Native.ReadWrite | Native.CloseOnExec, 0);

    /// <summary>read(2); 0 at the end, which is also how a terminal's hang-up (EIO) is told.</summary>
    public static int Read(int fd, Span<byte> buffer)
    {
        fixed (byte* p = buffer)
        {
            nint n;
            do
            {
                n = Native.Read(fd, p, (nuint)buffer.Length);
            }
            while (n < 0 && Native.Errno == Native.Interrupted);
            return (int)Math.Max(n, 0);
        }
    }

    /// <summary>Writes all of it, or returns false when nobody reads any more.</summary>
    public static bool Write(int fd, ReadOnlySpan<byte> buffer)
    {
        fixed (byte* p = buffer)
        {
            for (nint done = 0; done < buffer.Length;)
            {
                var n = Native.Write(fd, p + done, (nuint)(buffer.Length - done));
                if (n < 0 && Native.Errno != Native.Interrupted)
                {
                    return false;
                }

                done += Math.Max(n, 0);
            }
        }

        return true;
    }

    /// <summary>Waits until one of two descriptors is readable. Returns whether the second one is.</summary>
    public static bool WaitForEither(int first, int second)
    {
        var requests = stackalloc PollRequest[2];
        while (true)
        {
            requests[0] = new PollRequest { Fd = first, Events = Native.PollIn };
            requests[1] = new PollRequest { Fd = second, Events = Native.PollIn };
            if (Native.Poll(requests, 2, -1) > 0)
            {
                return requests[1].Returned != 0;
            }
        }
    }

    /// <summary>Whether there is something to read (or the end) within so many milliseconds.</summary>
    public static bool Wait(int fd, int milliseconds)
    {
        var request = new PollRequest { Fd = fd, Events = Native.PollIn };
        return Native.Poll(&request, 1, milliseconds) > 0;
    }
}
