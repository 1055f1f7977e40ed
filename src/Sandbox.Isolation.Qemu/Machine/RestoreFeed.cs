using System.Buffers;
using System.Threading.Channels;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Disks;
using Sandbox.Isolation.Guest;
using Sandbox.Isolation.Qemu.Golden;
using Sandbox.Isolation.Qemu.Memory;

namespace Sandbox.Isolation.Qemu.Machine;

/// <summary>
/// Reads a saved machine while its QEMU starts: the disk goes to its file, pages wait, at most 64 MiB of them, until there is a memory to write them to. Everything is read, and so verified, before the
/// machine runs.
/// </summary>
internal sealed class RestoreFeed : IAsyncDisposable
{
    private const int PagesAtOnce = 256;
    private const int BatchesAhead = 64;
    private readonly Channel<Batch> _batches = Channel.CreateBounded<Batch>(new BoundedChannelOptions(BatchesAhead) { SingleReader = true, SingleWriter = true });
    private readonly CancellationTokenSource _stop = new();
    private readonly IMachineSource _source;
    private readonly string _diskPath;
    private readonly bool _withMemory;
    private readonly bool _fromNothing;
    private readonly SafeFileHandle _disk;
    private readonly Task _reading;
    private byte[] _devices = [];
    private GuestMemo? _memo;

    private RestoreFeed(IMachineSource source, string diskPath, SafeFileHandle disk, bool withMemory, bool fromNothing)
    {
        (_source, _diskPath, _disk, _withMemory, _fromNothing) = (source, diskPath, disk, withMemory, fromNothing);
        _reading = Task.Run(ReadAsync);
    }

    /// <summary>Where the disk is until it is whole.</summary>
    public string PartialDisk => _diskPath + DataDisk.Partial;

    /// <summary>What the host that saved it knew of the guest's channel.</summary>
    public GuestMemo Memo => _memo!;

    /// <summary>Begins to read. The disk is there when this returns, and not yet whole.</summary>
    /// <param name="source">What is read.</param>
    /// <param name="golden">What it is a difference from, or nothing.</param>
    /// <param name="diskPath">Where the disk will be.</param>
    /// <param name="withMemory">Its memory too; else that is there already.</param>
    public static async Task<RestoreFeed> StartAsync(IMachineSource source, LoadedGolden? golden, string diskPath, bool withMemory)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(diskPath)!);
        var partial = diskPath + DataDisk.Partial;
        File.Delete(partial);
        var disk = File.OpenHandle(partial, FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite);
        try
        {
            File.SetUnixFileMode(disk, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            await Task.Run(() => DataDisk.Begin(disk, golden?.Disk, source.Facts.DiskBytes));
            return new RestoreFeed(source, diskPath, disk, withMemory, golden is null);
        }
        catch
        {
            disk.Dispose();
            File.Delete(partial);
            throw;
        }
    }

    /// <summary>Writes the saved pages into the new machine's memory, and returns the state of its devices once all has been read.</summary>
    public async Task<ReadOnlyMemory<byte>> FillAsync(ProcessMemoryOpener open, CancellationToken cancellationToken)
    {
        using var memory = _withMemory ? open() : null;
        await foreach (var batch in _batches.Reader.ReadAllAsync(cancellationToken))
        {
            var at = 0;
            foreach (var (first, count) in batch.Runs)
            {
                memory!.Write(first, batch.Data.AsSpan(at, (int)count * ProcessMemory.Page));
                at += (int)count * ProcessMemory.Page;
            }

            ArrayPool<byte>.Shared.Return(batch.Data);
        }

        await _reading.WaitAsync(cancellationToken);
        return _devices;
    }

    /// <summary>Puts the disk into its place.</summary>
    public void PlaceDisk() => File.Move(PartialDisk, _diskPath, overwrite: true);

    /// <summary>Ends the reading; a disk that was not placed is removed.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _reading.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _disk.Dispose();
        File.Delete(PartialDisk);
        _stop.Dispose();
    }

    private async Task ReadAsync()
    {
        try
        {
            _devices = await SourceRules.DevicesOfAsync(_source, _stop.Token);
            _memo = GuestMemo.Decode(await _source.ReadGuestAsync(_stop.Token));
            var zeros = new byte[MachineBlock.DiskBlock];
            await foreach (var block in SourceRules.DiskOf(_source, _stop.Token))
            {
                var offset = block.Index * MachineBlock.DiskBlock;
                RandomAccess.Write(_disk, block.Data.IsEmpty ? zeros.AsSpan(0, (int)Math.Min(zeros.Length, _source.Facts.DiskBytes - offset)) : block.Data.Span, offset);
            }

            if (_withMemory)
            {
                await ReadMemoryAsync();
            }

            _batches.Writer.Complete();
        }
        catch (Exception e)
        {
            _batches.Writer.Complete(e);
            throw;
        }
    }

    private async Task ReadMemoryAsync()
    {
        var batch = new Batch();
        await foreach (var block in SourceRules.MemoryOf(_source, _stop.Token))
        {
            if (block.Data.IsEmpty && _fromNothing)
            {
                continue;
            }

            if (batch.Pages == PagesAtOnce)
            {
                await _batches.Writer.WriteAsync(batch, _stop.Token);
                batch = new Batch();
            }

            batch.Add(block);
        }

        await _batches.Writer.WriteAsync(batch, _stop.Token);
    }

    /// <summary>A megabyte of pages, in runs of neighbours.</summary>
    private sealed class Batch
    {
        public byte[] Data { get; } = ArrayPool<byte>.Shared.Rent(PagesAtOnce * ProcessMemory.Page);

        public List<PageRun> Runs { get; } = [];

        public int Pages { get; private set; }

        public void Add(MachineBlock block)
        {
            var room = Data.AsSpan(Pages++ * ProcessMemory.Page, ProcessMemory.Page);
            if (block.Data.IsEmpty)
            {
                room.Clear();
            }
            else
            {
                block.Data.Span.CopyTo(room);
            }

            if (Runs is [.., var last] && last.First + last.Count == block.Index)
            {
                Runs[^1] = last with { Count = last.Count + 1 };
            }
            else
            {
                Runs.Add(new PageRun(block.Index, 1));
            }
        }
    }
}
