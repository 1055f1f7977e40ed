using System.Buffers.Binary;
using System.Collections;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Disks;

namespace Sandbox.Isolation.Firecracker.Memory.Userfault;

/// <summary>
/// Serves the pages of one machine from its memory file, each when it is first touched. The descriptor comes from the machine's process, and so do the addresses: every one is looked up in the regions that
/// were checked before, and nothing else is ever read.
/// </summary>
internal sealed unsafe class FaultHandler : IDisposable
{
    /// <summary>Pages that are served at once, aligned: neighbours are usually wanted next, and a system call costs more than a few more pages.</summary>
    private const ulong Ahead = 16;

    /// <summary>How often a copy is tried again that the kernel refuses because the process's mappings change at the moment.</summary>
    private const int MaxRetries = 1000;

    /// <summary>How often is looked whether to end, in milliseconds.</summary>
    private const int PollMilliseconds = 50;

    private readonly SafeFileHandle _userfault;
    private readonly SafeFileHandle _memory;
    private readonly IReadOnlyList<UserfaultRegion> _regions;
    private readonly BitArray _removed;
    private bool _anyRemoved;
    private readonly byte* _buffer = (byte*)NativeMemory.AlignedAlloc((nuint)(Ahead * UserfaultRegion.Page), (nuint)UserfaultRegion.Page);
    private volatile bool _stop;

    public FaultHandler(SafeFileHandle userfault, SafeFileHandle memory, IReadOnlyList<UserfaultRegion> regions)
    {
        (_userfault, _memory, _regions) = (userfault, memory, regions);
        _removed = new BitArray((int)(regions.Max(r => r.Offset + r.Size) / UserfaultRegion.Page));

        // Reading must never hang, whatever kind of descriptor this really is.
        _ = UserfaultNative.FileControl(Fd, UserfaultNative.SetFlags, UserfaultNative.NonBlocking);
    }

    /// <summary>Pages that were put in place.</summary>
    public long Served { get; private set; }

    private int Fd => (int)_userfault.DangerousGetHandle();

    public void Stop() => _stop = true;

    /// <summary>Serves until the process is gone or <see cref="Stop"/> was called.</summary>
    /// <exception cref="InvalidDataException">What came through the descriptor makes no sense.</exception>
    /// <exception cref="IOException">The memory file cannot be read.</exception>
    public void Run()
    {
        var fault = stackalloc byte[UserfaultNative.EventBytes];
        while (!_stop)
        {
            var request = new PollRequest { Fd = Fd, Events = UserfaultNative.PollIn };
            if (UserfaultNative.Poll(&request, 1, PollMilliseconds) <= 0)
            {
                continue;
            }

            var read = UserfaultNative.Read(Fd, fault, UserfaultNative.EventBytes);
            if (read < 0 && Marshal.GetLastPInvokeError() is UserfaultNative.Again or UserfaultNative.Interrupted)
            {
                continue;
            }

            if (read <= 0)
            {
                // The process that had the memory is gone.
                return;
            }

            if (read != UserfaultNative.EventBytes)
            {
                throw new InvalidDataException($"An event of {read} bytes came from the machine's memory; one has {UserfaultNative.EventBytes}.");
            }

            if (!Handle(new ReadOnlySpan<byte>(fault, UserfaultNative.EventBytes)))
            {
                return;
            }
        }
    }

    public void Dispose()
    {
        _userfault.Dispose();
        NativeMemory.AlignedFree(_buffer);
    }

    private bool Handle(ReadOnlySpan<byte> fault)
    {
        var first = BinaryPrimitives.ReadUInt64LittleEndian(fault[8..]);
        var second = BinaryPrimitives.ReadUInt64LittleEndian(fault[16..]);
        switch (fault[0])
        {
            case UserfaultNative.PageFault:
                return Serve(second & ~(UserfaultRegion.Page - 1));
            case UserfaultNative.Remove:
                Forget(first, second);
                return true;
            default:
                throw new InvalidDataException($"An event of kind 0x{fault[0]:x} came from the machine's memory; page faults and removals are expected.");
        }
    }

    /// <summary>Returns whether the process is still there.</summary>
    private bool Serve(ulong address)
    {
        var region = RegionOf(address);
        if (_removed[PageOf(region, address)])
        {
            return Put(address, at => UserfaultNative.Zero(Fd, at, UserfaultRegion.Page));
        }

        // A block of neighbours, as far as it lies in the region and nothing of it was given back.
        var begin = Math.Max(region.BaseHostVirtAddr, address & ~((Ahead * UserfaultRegion.Page) - 1));
        var end = Math.Min(region.BaseHostVirtAddr + region.Size, (address & ~((Ahead * UserfaultRegion.Page) - 1)) + (Ahead * UserfaultRegion.Page));
        if (!_anyRemoved && end - begin > UserfaultRegion.Page)
        {
            Load(region, begin, end - begin);
            if (UserfaultNative.Copy(Fd, begin, _buffer, end - begin) == 0)
            {
                Served += (long)((end - begin) / UserfaultRegion.Page);
                return true;
            }
        }

        // Some of them were there already: then the one that is waited for alone.
        Load(region, address, UserfaultRegion.Page);
        return Put(address, at => UserfaultNative.Copy(Fd, at, _buffer, UserfaultRegion.Page));
    }

    private bool Put(ulong address, Func<ulong, int> put)
    {
        for (var tries = 0; ; tries++)
        {
            switch (put(address))
            {
                case 0:
                    Served++;
                    return true;
                case UserfaultNative.Exists:
                    return UserfaultNative.Wake(Fd, address, UserfaultRegion.Page) != UserfaultNative.NoProcess;
                case UserfaultNative.Again when tries < MaxRetries && !_stop:
                    Thread.Yield();
                    continue;
                case UserfaultNative.NoProcess:
                    return false;
                case UserfaultNative.NoEntry:
                    // Not mapped any more: nobody waits for it.
                    return true;
                case var errno:
                    throw new InvalidDataException($"The kernel does not take a page of the machine's memory: {Marshal.GetPInvokeErrorMessage(errno)}");
            }
        }
    }

    private void Load(UserfaultRegion region, ulong address, ulong length) =>
        SparseFile.ReadFully(_memory, new Span<byte>(_buffer, (int)length), (long)(region.Offset + (address - region.BaseHostVirtAddr)));

    /// <summary>Pages that the process has given back read as zeros from now on. Only those of its memory count: what is remembered is a bit for each page of it.</summary>
    private void Forget(ulong begin, ulong end)
    {
        foreach (var region in _regions)
        {
            var last = Math.Min(end, region.BaseHostVirtAddr + region.Size);
            for (var page = Math.Max(begin, region.BaseHostVirtAddr) & ~(UserfaultRegion.Page - 1); page < last; page += UserfaultRegion.Page)
            {
                _removed[PageOf(region, page)] = _anyRemoved = true;
            }
        }
    }

    private static int PageOf(UserfaultRegion region, ulong address) => (int)((region.Offset + (address - region.BaseHostVirtAddr)) / UserfaultRegion.Page);

    private UserfaultRegion RegionOf(ulong address)
    {
        foreach (var region in _regions)
        {
            if (region.Holds(address))
            {
                return region;
            }
        }

        throw new InvalidDataException($"A page fault at 0x{address:x} came from the machine's process; its memory is not there.");
    }
}
