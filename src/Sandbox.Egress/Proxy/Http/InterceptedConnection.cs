using System.Buffers;
using System.IO.Pipelines;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Sandbox.Egress.Proxy.Connections;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>A guest's connection in the form in which Kestrel takes one: its decrypted bytes, and whose they are as a feature that every request has at hand.</summary>
internal sealed class InterceptedConnection : ConnectionContext, IDuplexPipe, ITlsConnectionFeature, ITlsApplicationProtocolFeature
{
    private const int ReadAhead = 128 * 1024;
    private readonly CancellationTokenSource _closed = new();
    private readonly TaskCompletionSource _over = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Stream _stream;
    private readonly Pipe _received;
    private readonly SslApplicationProtocol _protocol;
    private readonly Task _receiving;

    public InterceptedConnection(GuestConnection guest, Stream stream, SslApplicationProtocol protocol, bool isTls)
    {
        (Guest, _stream, _protocol, IsTls) = (guest, stream, protocol, isTls);
        ConnectionId = Guid.NewGuid().ToString("N");
        ConnectionClosed = _closed.Token;
        _received = new Pipe(new PipeOptions(MemoryPool<byte>.Shared, PipeScheduler.ThreadPool, PipeScheduler.ThreadPool, ReadAhead, ReadAhead / 2, 16 * 1024, useSynchronizationContext: false));
        Output = PipeWriter.Create(stream, new StreamPipeWriterOptions(minimumBufferSize: 16 * 1024, leaveOpen: true));
        Transport = this;
        Features.Set(this);
        if (isTls)
        {
            Features.Set<ITlsConnectionFeature>(this);
            Features.Set<ITlsApplicationProtocolFeature>(this);
        }

        _receiving = Task.Run(ReceiveAsync);
    }

    /// <summary>Whose connection it is.</summary>
    public GuestConnection Guest { get; }

    /// <summary>The guest's side is TLS.</summary>
    public bool IsTls { get; }

    /// <summary>Completes when Kestrel is done with it.</summary>
    public Task Over => _over.Task;

    public override string ConnectionId { get; set; }

    public override IFeatureCollection Features { get; } = new FeatureCollection();

    public override IDictionary<object, object?> Items { get; set; } = new Dictionary<object, object?>();

    public override IDuplexPipe Transport { get; set; }

    public override CancellationToken ConnectionClosed { get; set; }

    public PipeReader Input => _received.Reader;

    public PipeWriter Output { get; }

    ReadOnlyMemory<byte> ITlsApplicationProtocolFeature.ApplicationProtocol => _protocol.Protocol;

    X509Certificate2? ITlsConnectionFeature.ClientCertificate { get; set; }

    Task<X509Certificate2?> ITlsConnectionFeature.GetClientCertificateAsync(CancellationToken cancellationToken) => Task.FromResult<X509Certificate2?>(null);

    public override void Abort(ConnectionAbortedException abortReason)
    {
        Splice.Reset(Guest.Socket);
        Close();
    }

    public override async ValueTask DisposeAsync()
    {
        try
        {
            await Output.CompleteAsync();
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or InvalidOperationException or OperationCanceledException)
        {
            // The guest is gone; nothing more can be told to it.
        }

        await _received.Reader.CompleteAsync();
        await base.DisposeAsync();
        _over.TrySetResult();
    }

    /// <summary>Ends the reading once the connection is over and its socket is closed.</summary>
    public async Task FinishAsync()
    {
        await _receiving;
        _closed.Dispose();
    }

    private async Task ReceiveAsync()
    {
        Exception? fault = null;
        try
        {
            while (true)
            {
                // Waits without a buffer: most connections are idle most of the time. That somebody reads all the time is how the end of the guest's side is noticed while an answer is awaited.
                _ = await _stream.ReadAsync(Memory<byte>.Empty);
                var count = await _stream.ReadAsync(_received.Writer.GetMemory(4096));
                if (count == 0)
                {
                    break;
                }

                _received.Writer.Advance(count);
                if ((await _received.Writer.FlushAsync()).IsCompleted)
                {
                    break;
                }
            }
        }
        catch (Exception e)
        {
            // Whatever it is, the connection cannot be read on; Kestrel is told.
            fault = e is IOException ? e : new IOException("The guest's connection broke off.", e);
        }

        await _received.Writer.CompleteAsync(fault);
        Close();
    }

    private void Close()
    {
        try
        {
            _closed.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // Over already.
        }
    }
}
