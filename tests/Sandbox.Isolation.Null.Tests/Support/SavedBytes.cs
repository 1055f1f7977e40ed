using System.Runtime.CompilerServices;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Null.Tests.Support;

/// <summary>A saved machine in memory: a sink, and then a source.</summary>
internal sealed class SavedBytes : IMachineSink, IMachineSource
{
    private MachineFacts? _facts;
    private byte[] _devices = [];
    private byte[] _guest = [];

    public MachineFacts Facts => _facts!;

    public SortedDictionary<long, byte[]> Memory { get; } = [];

    public SortedDictionary<long, byte[]> Disk { get; } = [];

    /// <summary>Called before each page.</summary>
    public Func<Task> OnPage { get; set; } = () => Task.CompletedTask;

    public Task BeginAsync(MachineFacts facts, CancellationToken cancellationToken)
    {
        _facts = facts;
        return Task.CompletedTask;
    }

    public Task WriteDevicesAsync(ReadOnlyMemory<byte> devices, CancellationToken cancellationToken)
    {
        _devices = devices.ToArray();
        return Task.CompletedTask;
    }

    public Task WriteGuestAsync(ReadOnlyMemory<byte> memo, CancellationToken cancellationToken)
    {
        _guest = memo.ToArray();
        return Task.CompletedTask;
    }

    public async ValueTask WriteMemoryAsync(MachineBlock block, CancellationToken cancellationToken)
    {
        await OnPage();
        Memory.Add(block.Index, block.Data.ToArray());
    }

    public ValueTask WriteDiskAsync(MachineBlock block, CancellationToken cancellationToken)
    {
        Disk.Add(block.Index, block.Data.ToArray());
        return ValueTask.CompletedTask;
    }

    public Task<byte[]> ReadDevicesAsync(CancellationToken cancellationToken) => Task.FromResult(_devices);

    public Task<byte[]> ReadGuestAsync(CancellationToken cancellationToken) => Task.FromResult(_guest);

    public IAsyncEnumerable<MachineBlock> ReadMemoryAsync(CancellationToken cancellationToken) => ReadAsync(Memory, cancellationToken);

    public IAsyncEnumerable<MachineBlock> ReadDiskAsync(CancellationToken cancellationToken) => ReadAsync(Disk, cancellationToken);

    private static async IAsyncEnumerable<MachineBlock> ReadAsync(SortedDictionary<long, byte[]> blocks, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        foreach (var (index, data) in blocks)
        {
            cancellationToken.ThrowIfCancellationRequested();
            await Task.CompletedTask;
            yield return new MachineBlock(index, data);
        }
    }
}
