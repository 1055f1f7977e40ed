using System.Buffers;

namespace Sandbox.Egress.Proxy.Http;

/// <summary>A request's body, of which the first part was read ahead to be judged. Read once, by one reader, from its beginning.</summary>
/// <param name="inner">The body.</param>
/// <param name="slot">Given back when the first part is on its way.</param>
internal sealed class PeekedBody(Stream inner, IDisposable slot) : ReadOnlyStream
{
    private const int Chunk = 16 * 1024;
    private readonly byte[] _chunk = new byte[Chunk];
    private ArrayBufferWriter<byte>? _peeked = new();
    private Task<int>? _pending;
    private int _read;

    /// <summary>Gives nothing back.</summary>
    public static IDisposable NoSlot { get; } = new MemoryStream();

    /// <summary>The whole body was read.</summary>
    public bool IsComplete { get; private set; }

    /// <summary>What was read.</summary>
    public ReadOnlyMemory<byte> Peeked => _peeked?.WrittenMemory ?? default;

    /// <summary>Reads until the body ends, there is more than a limit, or nothing has come for a while.</summary>
    /// <exception cref="IOException">The guest broke it off.</exception>
    public async Task FillAsync(int limit, TimeSpan wait, TimeProvider time, CancellationToken cancellationToken)
    {
        while (_peeked!.WrittenCount <= limit)
        {
            _pending ??= inner.ReadAsync(_chunk, cancellationToken).AsTask();
            try
            {
                await _pending.WaitAsync(wait, time, cancellationToken);
            }
            catch (TimeoutException)
            {
                // The read goes on, and whoever reads the rest gets what it brings.
                return;
            }

            var count = await _pending;
            _pending = null;
            if (count == 0)
            {
                IsComplete = true;
                return;
            }

            _peeked.Write(_chunk.AsSpan(0, count));
        }
    }

    /// <summary>Overwrites parts of what was read.</summary>
    public void Blank(IEnumerable<Range> parts)
    {
        var bytes = _peeked!.WrittenMemory.ToArray();
        foreach (var part in parts)
        {
            bytes.AsSpan(part).Fill((byte)'*');
        }

        _peeked = new ArrayBufferWriter<byte>(Math.Max(1, bytes.Length));
        _peeked.Write(bytes);
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }

        if (_peeked is not null && _read < _peeked.WrittenCount)
        {
            var length = Math.Min(buffer.Length, _peeked.WrittenCount - _read);
            _peeked.WrittenMemory.Slice(_read, length).CopyTo(buffer);
            _read += length;
            return length;
        }

        _peeked = null;
        slot.Dispose();
        if (IsComplete)
        {
            return 0;
        }

        if (_pending is null)
        {
            return await inner.ReadAsync(buffer, cancellationToken);
        }

        // At most what fits: the rest becomes the part that was read ahead.
        var count = await _pending.WaitAsync(cancellationToken);
        _pending = null;
        if (count <= buffer.Length)
        {
            IsComplete = count == 0;
            _chunk.AsSpan(0, count).CopyTo(buffer.Span);
            return count;
        }

        _peeked = new ArrayBufferWriter<byte>(count);
        _peeked.Write(_chunk.AsSpan(0, count));
        _read = 0;
        return await ReadAsync(buffer, cancellationToken);
    }
}
