using System.Runtime.CompilerServices;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Firecracker.Tests.Fixture;

/// <summary>A saved machine of which one byte is wrong, in a place of one's choice.</summary>
internal sealed class Damaged(IMachineSource whole) : IMachineSource
{
    public bool Devices { get; set; }

    public bool Page { get; set; }

    public bool Block { get; set; }

    public MachineFacts Facts => whole.Facts;

    public async Task<byte[]> ReadDevicesAsync(CancellationToken cancellationToken)
    {
        var devices = (byte[])(await whole.ReadDevicesAsync(cancellationToken)).Clone();
        devices[^20] ^= Devices ? (byte)1 : (byte)0;
        return devices;
    }

    public Task<byte[]> ReadGuestAsync(CancellationToken cancellationToken) => whole.ReadGuestAsync(cancellationToken);

    public IAsyncEnumerable<MachineBlock> ReadMemoryAsync(CancellationToken cancellationToken) => DamageAsync(whole.ReadMemoryAsync(cancellationToken), Page, cancellationToken);

    public IAsyncEnumerable<MachineBlock> ReadDiskAsync(CancellationToken cancellationToken) => DamageAsync(whole.ReadDiskAsync(cancellationToken), Block, cancellationToken);

    private static async IAsyncEnumerable<MachineBlock> DamageAsync(IAsyncEnumerable<MachineBlock> blocks, bool damage, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var block in blocks.WithCancellation(cancellationToken))
        {
            if (damage && !block.Data.IsEmpty)
            {
                damage = false;
                var data = block.Data.ToArray();
                data[^1] ^= 1;
                yield return block with { Data = data };
                continue;
            }

            yield return block;
        }
    }
}
