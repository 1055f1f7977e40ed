using System.Security.Cryptography;
using System.Text;
using Sandbox.Guest.Protocol;

namespace Sandbox.Guest.Agent.Platform;

/// <summary>Makes this machine itself: fresh randomness, the right time, its own name. Before any user code after a boot or a clone.</summary>
internal static unsafe class Identity
{
    private const nuint AddEntropy = 0x40085203;
    private const nuint ReseedRandom = 0x5207;

    /// <summary>Another one after each boot. The kernel of a container has booted long before, so there it is the agent's own.</summary>
    public static string BootId { get; } = Container.Entered ? Guid.NewGuid().ToString() : File.ReadAllText("/proc/sys/kernel/random/boot_id").Trim();

    public static void Apply(Reseed request, Surroundings surroundings)
    {
        if (request.Entropy.Length is < 32 or > 4096)
        {
            throw new AgentException(ErrorCode.InvalidArgument, "Entropy is 32 to 4096 bytes.");
        }

        Seed(request.Entropy.Span);
        if (surroundings == Surroundings.Host)
        {
            return;
        }

        var time = new TimeSpec { Seconds = request.UnixNanos / 1_000_000_000, Nanoseconds = request.UnixNanos % 1_000_000_000 };
        if (surroundings == Surroundings.Machine && request.UnixNanos > 0 && Native.SetClock(0, &time) != 0)
        {
            throw AgentException.FromErrno(Native.Errno, "Cannot set the clock");
        }

        if (request.Hostname.Length is > 0 and <= 63 && request.Hostname.All(c => char.IsAsciiLetterOrDigit(c) || c == '-'))
        {
            // In a container where only the host may (runc), it has done so.
            _ = Native.SetHostName(request.Hostname, (nuint)request.Hostname.Length);
            Put("/etc/hostname", request.Hostname + "\n");
            Put("/etc/hosts", $"127.0.0.1 localhost {request.Hostname}\n::1 localhost\n");
        }

        if (request.SessionId.Length > 0)
        {
            Put("/etc/machine-id", Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(request.SessionId)).AsSpan(0, 16)) + "\n");
        }
        else
        {
            // Nobody's yet: it is going to be parked. The first write to a file of the image copies it to the writable disk; better now than while a caller waits.
            Put("/etc/machine-id", "\n");
        }
    }

    /// <summary>A full or removed disk must not keep a session from waking up.</summary>
    private static void Put(string path, string text)
    {
        try
        {
            File.WriteAllText(path, text);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The kernel has the name all the same.
        }
    }

    private static void Seed(ReadOnlySpan<byte> entropy)
    {
        var fd = Native.Open("/dev/urandom", Native.ReadWrite | Native.CloseOnExec, 0);
        if (fd < 0)
        {
            return;
        }

        // struct rand_pool_info { int entropy_count (bits); int buf_size; u32 buf[]; }
        var pool = stackalloc byte[8 + 4096];
        ((int*)pool)[0] = entropy.Length * 8;
        ((int*)pool)[1] = entropy.Length;
        entropy.CopyTo(new Span<byte>(pool + 8, 4096));
        _ = Native.IoControl(fd, AddEntropy, pool);
        _ = Native.IoControl(fd, ReseedRandom, null);
        Native.Close(fd);
    }
}
