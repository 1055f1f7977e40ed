using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Qemu.Memory;

/// <summary>Memory that is still being written, by this process alone.</summary>
internal sealed class UnsealedMemory : IDisposable
{
    private readonly string _name;
    private SafeFileHandle? _file;
    private nint _address;
    private long _mapped;

    /// <param name="name">See <see cref="SealedMemory.Name"/>.</param>
    public UnsealedMemory(string name) => (_name, _file) = (name, MemoryCalls.Create(name));

    /// <summary>The file, to be written through.</summary>
    public SafeFileHandle File => _file ?? throw new ObjectDisposedException(nameof(UnsealedMemory));

    /// <summary>Has so many bytes of it present and mapped: written through <see cref="Span"/>, no page has to be found meanwhile. Never fewer than before.</summary>
    public void Reserve(long bytes)
    {
        if (bytes <= _mapped)
        {
            return;
        }

        RandomAccess.SetLength(File, bytes);
        Unmap();
        (_address, _mapped) = (MemoryCalls.MapForWriting(File, bytes), bytes);
    }

    /// <summary>Bytes of what was reserved.</summary>
    public unsafe Span<byte> Span(long offset, int length)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset + length, _mapped, nameof(length));
        return new Span<byte>((void*)(_address + (nint)offset), length);
    }

    /// <summary>Ends the writing: the first <paramref name="size"/> bytes are what it is from now on.</summary>
    public SealedMemory Seal(long size)
    {
        // A mapping that could write would keep the seal from being set.
        Unmap();
        RandomAccess.SetLength(File, size);
        MemoryCalls.Seal(File);
        var sealedMemory = new SealedMemory(File, _name, MemoryCalls.MapForReading(File, size), size);
        _file = null;
        return sealedMemory;
    }

    public void Dispose()
    {
        Unmap();
        _file?.Dispose();
        _file = null;
    }

    private void Unmap()
    {
        if (_mapped > 0)
        {
            MemoryCalls.Unmap(_address, _mapped);
            _mapped = 0;
        }
    }
}
