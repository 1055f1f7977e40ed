using Microsoft.Win32.SafeHandles;
using Sandbox.Guest.Agent.Platform;

namespace Sandbox.Guest.Agent.Channel;

/// <summary>
/// A file descriptor (or one for each direction) as a blocking stream: read(2) and write(2) and nothing between, because a virtio port is neither a file nor a socket
/// to .NET. Reading and writing may happen at the same time on two threads, and disposing on a third: a descriptor is closed when the last call has returned.
/// </summary>
internal sealed unsafe class DescriptorStream(int input, int output) : Stream
{
    private readonly SafeFileHandle _input = new(input, ownsHandle: true);
    private readonly SafeFileHandle? _output = output == input ? null : new(output, ownsHandle: true);

    public DescriptorStream(int fd)
        : this(fd, fd)
    {
    }

    public override bool CanRead => true;

    public override bool CanWrite => true;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override int Read(Span<byte> buffer)
    {
        fixed (byte* p = buffer)
        {
            while (true)
            {
                var n = Native.Read(_input, p, (nuint)buffer.Length);
                if (n >= 0)
                {
                    return (int)n;
                }

                if (Native.Errno != Native.Interrupted)
                {
                    throw new IOException("read: " + Native.Describe(Native.Errno));
                }
            }
        }
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        fixed (byte* p = buffer)
        {
            for (nint done = 0; done < buffer.Length;)
            {
                var n = Native.Write(_output ?? _input, p + done, (nuint)(buffer.Length - done));
                if (n < 0 && Native.Errno != Native.Interrupted)
                {
                    throw new IOException("write: " + Native.Describe(Native.Errno));
                }

                done += Math.Max(n, 0);
            }
        }
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        _input.Dispose();
        _output?.Dispose();
        base.Dispose(disposing);
    }
}
