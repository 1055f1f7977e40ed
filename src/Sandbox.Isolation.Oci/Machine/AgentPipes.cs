using System.Diagnostics;
using System.IO.Pipes;
using Sandbox.Isolation.Oci.Hosting;

namespace Sandbox.Isolation.Oci.Machine;

/// <summary>
/// The two pipes to a container's agent as one stream. They are its standard input and output: the only channel that both runtimes pass through everything, that gVisor carries over a checkpoint, and that ends
/// for the agent when this program does.
/// </summary>
internal sealed class AgentPipes(Process runtime) : Stream
{
    private readonly Stream _toAgent = runtime.StandardInput.BaseStream;
    private readonly Stream _fromAgent = runtime.StandardOutput.BaseStream;

    /// <summary>Bytes that the agent has written and nobody has read yet.</summary>
    public int Waiting => _fromAgent is PipeStream { SafePipeHandle: { IsClosed: false } pipe } ? Kernel.Available(pipe) : 0;

    /// <summary>Gives both pipes to the agent's user: gVisor lets whoever they belong to open them again by the agent's list of descriptors.</summary>
    public void GiveTo(uint user)
    {
        foreach (var stream in (Stream[])[_toAgent, _fromAgent])
        {
            if (stream is PipeStream pipe)
            {
                Kernel.ChangeOwner(pipe.SafePipeHandle, user);
            }
        }
    }

    public override bool CanRead => true;

    public override bool CanWrite => true;

    public override bool CanSeek => false;

    public override long Length => throw new NotSupportedException();

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => _fromAgent.ReadAsync(buffer, cancellationToken);

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override int Read(byte[] buffer, int offset, int count) => _fromAgent.Read(buffer, offset, count);

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => _toAgent.WriteAsync(buffer, cancellationToken);

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override void Write(byte[] buffer, int offset, int count) => _toAgent.Write(buffer, offset, count);

    public override void Flush() => _toAgent.Flush();

    public override Task FlushAsync(CancellationToken cancellationToken) => _toAgent.FlushAsync(cancellationToken);

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            try
            {
                _toAgent.Dispose();
            }
            catch (IOException)
            {
                // What was not written has nobody to read it any more.
            }

            _fromAgent.Dispose();
        }

        base.Dispose(disposing);
    }
}
