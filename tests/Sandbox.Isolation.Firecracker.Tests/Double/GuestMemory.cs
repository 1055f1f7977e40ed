using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;

namespace Sandbox.Isolation.Firecracker.Tests.Double;

/// <summary>
/// The memory of a guest that is none: pages that it has written over what it was loaded with, and which ones since the last snapshot. It knows at every moment which pages are not zero and what is in them, so that
/// a load can be checked byte by byte.
/// </summary>
internal sealed class GuestMemory(long length)
{
    public const int Page = 4096;

    private readonly Dictionary<long, byte[]> _written = [];
    private readonly HashSet<long> _dirty = [];
    private readonly SortedDictionary<long, string> _content = [];
    private ReadPage? _loaded;

    public delegate void ReadPage(long index, Span<byte> page);

    public long Length => length;

    /// <summary>Pages that are not zero, each with a hash of what is in it.</summary>
    public IReadOnlyDictionary<long, string> Content => _content;

    /// <summary>What a guest's life does to its memory: writes some pages, and leaves some that were written before as zeros.</summary>
    public void Live(int pages)
    {
        var count = length / Page;
        for (var i = 0; i < pages; i++)
        {
            Write(RandomNumberGenerator.GetInt32((int)count), RandomNumberGenerator.GetBytes(Page));
        }

        foreach (var index in _content.Keys.Where(k => k % 7 == 3).Take(pages / 4).ToList())
        {
            Write(index, new byte[Page]);
        }
    }

    public void Write(long index, byte[] page)
    {
        _written[index] = page;
        _dirty.Add(index);
        if (page.AsSpan().ContainsAnyExcept((byte)0))
        {
            _content[index] = HashOf(page);
        }
        else
        {
            _content.Remove(index);
        }
    }

    /// <summary>Takes over a loaded memory, after looking at every page that should be there and at some that should not.</summary>
    public void Load(ReadPage loaded, IReadOnlyDictionary<long, string> content, IEnumerable<long> alsoZero)
    {
        var page = new byte[Page];
        foreach (var (index, hash) in content)
        {
            loaded(index, page);
            if (HashOf(page) != hash)
            {
                throw new DoubleException($"page {index} of the memory is not what was saved");
            }

            _content[index] = hash;
        }

        foreach (var index in alsoZero.Where(i => !content.ContainsKey(i)))
        {
            loaded(index, page);
            if (page.AsSpan().ContainsAnyExcept((byte)0))
            {
                throw new DoubleException($"page {index} of the memory is not zero, as it was when it was saved");
            }
        }

        _loaded = loaded;
    }

    /// <summary>Writes a snapshot's file: all of it, or holes where nothing was written since the last one.</summary>
    public void Save(SafeFileHandle file, bool full)
    {
        RandomAccess.SetLength(file, length);
        var page = new byte[Page];
        if (full)
        {
            // Zeros too, as the real one does.
            var piece = new byte[1 << 20];
            for (var at = 0L; at < length; at += piece.Length)
            {
                RandomAccess.Write(file, piece.AsSpan(0, (int)Math.Min(piece.Length, length - at)), at);
            }
        }

        foreach (var index in (IEnumerable<long>)(full ? _content.Keys : _dirty.Order()))
        {
            Read(index, page);
            RandomAccess.Write(file, page, index * Page);
        }

        _dirty.Clear();
    }

    private void Read(long index, Span<byte> page)
    {
        if (_written.TryGetValue(index, out var written))
        {
            written.CopyTo(page);
        }
        else if (_loaded is not null)
        {
            _loaded(index, page);
        }
        else
        {
            page.Clear();
        }
    }

    private static string HashOf(ReadOnlySpan<byte> page) => Convert.ToHexStringLower(SHA256.HashData(page).AsSpan(0, 8));
}
