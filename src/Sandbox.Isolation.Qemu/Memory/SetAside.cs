using System.Buffers;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>
/// Bytes that are set aside while a machine stands still. Room is made before it does, so that no page has to be found meanwhile; beyond <paramref name="most"/> bytes they go into a file that has
/// no name.
/// </summary>
internal sealed partial class SetAside(long most, string spillDirectory) : IDisposable
{
    private readonly List<Chunk> _chunks = [];
    private readonly List<(Chunk? Chunk, long Offset, int Length)> _pieces = [];
    private int _current;
    private long _reserved;
    private SafeFileHandle? _spill;
    private long _spilled;

    /// <summary>Makes room.</summary>
    public void Reserve(long bytes)
    {
        while (_reserved < Math.Min(bytes, most))
        {
            AddChunk();
        }
    }

    /// <summary>Sets aside what <paramref name="fill"/> writes: at most <see cref="Chunk.Size"/> bytes.</summary>
    public void Add(int length, SpanAction<byte, object?> fill)
    {
        while (_current < _chunks.Count && _chunks[_current].Length + length > Chunk.Size)
        {
            _current++;
        }

        if (_current == _chunks.Count && _reserved >= most)
        {
            Spill(length, fill);
            return;
        }

        if (_current == _chunks.Count)
        {
            AddChunk();
        }

        var chunk = _chunks[_current];
        fill(chunk.GetSpan().Slice(chunk.Length, length), null);
        _pieces.Add((chunk, chunk.Length, length));
        chunk.Length += length;
    }

    /// <summary>The pieces, in the order in which they were set aside. One is good until the next.</summary>
    public IEnumerable<ReadOnlyMemory<byte>> Pieces()
    {
        byte[] buffer = [];
        foreach (var (chunk, offset, length) in _pieces)
        {
            if (chunk is not null)
            {
                yield return chunk.Memory.Slice((int)offset, length);
                continue;
            }

            buffer = buffer.Length < length ? new byte[length] : buffer;
            SparseFile.ReadFully(_spill!, buffer.AsSpan(0, length), offset);
            yield return buffer.AsMemory(0, length);
        }
    }

    public void Dispose()
    {
        _spill?.Dispose();
        foreach (IDisposable chunk in _chunks)
        {
            chunk.Dispose();
        }
    }

    private void AddChunk()
    {
        _chunks.Add(new Chunk());
        _reserved += Chunk.Size;
    }

    private void Spill(int length, SpanAction<byte, object?> fill)
    {
        if (_spill is null)
        {
            var path = Path.Combine(spillDirectory, $".set-aside-{Guid.NewGuid():N}");
            _spill = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite);
            File.Delete(path);
        }

        var buffer = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            fill(buffer.AsSpan(0, length), null);
            RandomAccess.Write(_spill, buffer.AsSpan(0, length), _spilled);
            _pieces.Add((null, _spilled, length));
            _spilled += length;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Memory outside of the collector's heap, present from the beginning.</summary>
    private sealed unsafe partial class Chunk : MemoryManager<byte>
    {
        public const int Size = 8 << 20;
        private const int ReadWrite = 3;
        private const int PrivateAnonymousPopulated = 2 | 0x20 | 0x8000;
        private nint _address;

        public Chunk()
        {
            _address = Map(0, Size, ReadWrite, PrivateAnonymousPopulated, -1, 0);
            if (_address == -1)
            {
                throw new IsolationException($"There is no memory to set a machine's state aside: {Marshal.GetLastPInvokeErrorMessage()}");
            }
        }

        public int Length { get; set; }

        public override Span<byte> GetSpan() => new((void*)_address, Size);

        public override MemoryHandle Pin(int elementIndex = 0) => new((void*)(_address + elementIndex));

        public override void Unpin()
        {
        }

        protected override void Dispose(bool disposing)
        {
            if (_address is not (0 or -1))
            {
                _ = Unmap(_address, Size);
                _address = 0;
            }
        }

        [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
        private static partial nint Map(nint address, nuint length, int protection, int flags, int fd, long offset);

        [LibraryImport("libc", EntryPoint = "munmap")]
        private static partial int Unmap(nint address, nuint length);
    }
}
