using System.Runtime.CompilerServices;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.TestSupport;

/// <summary>A saved machine in the tests' memory: a sink first, a source then. Checks that it is written in the order that the contract names.</summary>
public sealed class SavedInMemory : IMachineSink, IMachineSource
{
    private readonly SortedDictionary<long, byte[]> _memory = [];
    private readonly SortedDictionary<long, byte[]> _disk = [];
    private MachineFacts? _facts;
    private byte[]? _devices;
    private byte[]? _guest;
    private int _reading;
    private long _lastPage = -1;
    private long _lastBlock = -1;

    public MachineFacts Facts => _facts!;

    /// <inheritdoc/>
    public string? StateName { get; init; }

    public int DevicesBytes => _devices!.Length;

    public int Pages => _memory.Count;

    public IReadOnlyCollection<long> DiskBlocks => _disk.Keys;

    /// <summary>Called with the number of each page that is written or read; may throw.</summary>
    public Func<int, Task>? OnPage { get; set; }

    /// <summary>Times that the memory was read.</summary>
    public int Reads => _reading;

    /// <summary>The same with other facts.</summary>
    public SavedInMemory With(MachineFacts facts)
    {
        var other = new SavedInMemory { _facts = facts, _devices = _devices, _guest = _guest };
        foreach (var (index, data) in _memory)
        {
            other._memory[index] = data;
        }

        foreach (var (index, data) in _disk)
        {
            other._disk[index] = data;
        }

        return other;
    }

    public Task BeginAsync(MachineFacts facts, CancellationToken cancellationToken)
    {
        Require(_facts is null);
        _facts = facts;
        return Task.CompletedTask;
    }

    public Task WriteDevicesAsync(ReadOnlyMemory<byte> devices, CancellationToken cancellationToken)
    {
        Require(_facts is not null && _devices is null);
        _devices = devices.ToArray();
        return Task.CompletedTask;
    }

    public Task WriteGuestAsync(ReadOnlyMemory<byte> memo, CancellationToken cancellationToken)
    {
        Require(_devices is not null && _guest is null);
        _guest = memo.ToArray();
        return Task.CompletedTask;
    }

    public async ValueTask WriteMemoryAsync(MachineBlock block, CancellationToken cancellationToken)
    {
        Require(_guest is not null && _disk.Count == 0 && _lastPage < block.Index && block.Data.Length is 0 or MachineBlock.MemoryBlock);
        _lastPage = block.Index;
        _memory.Add(block.Index, block.Data.ToArray());
        if (OnPage is { } onPage)
        {
            await onPage(_memory.Count);
        }
    }

    public ValueTask WriteDiskAsync(MachineBlock block, CancellationToken cancellationToken)
    {
        Require(_guest is not null && _lastBlock < block.Index && block.Data.Length is 0 or MachineBlock.DiskBlock);
        _lastBlock = block.Index;
        _disk.Add(block.Index, block.Data.ToArray());
        return ValueTask.CompletedTask;
    }

    public Task<byte[]> ReadDevicesAsync(CancellationToken cancellationToken) => Task.FromResult(_devices!);

    public Task<byte[]> ReadGuestAsync(CancellationToken cancellationToken) => Task.FromResult(_guest!);

    public async IAsyncEnumerable<MachineBlock> ReadMemoryAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _reading);
        var count = 0;
        var page = new byte[MachineBlock.MemoryBlock];
        foreach (var (index, data) in _memory)
        {
            if (OnPage is { } onPage)
            {
                await onPage(++count);
            }

            // As a source may: what was given before is overwritten.
            data.CopyTo(page, 0);
            yield return new MachineBlock(index, page.AsMemory(0, data.Length));
        }
    }

    public async IAsyncEnumerable<MachineBlock> ReadDiskAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await Task.Yield();
        foreach (var (index, data) in _disk)
        {
            yield return new MachineBlock(index, data);
        }
    }

    private static void Require(bool inOrder)
    {
        if (!inOrder)
        {
            throw new InvalidOperationException("The sink was called out of order.");
        }
    }
}
