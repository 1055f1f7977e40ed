using Sandbox.Isolation.Backends;
using Sandbox.Snapshots.Manifests;

namespace Sandbox.Snapshots.Chunks;

/// <summary>
/// Gathers blocks into regions of 32 neighbours, one chunk each. Regions lie at fixed places, so that one which did not change since the parent is the same chunk again.
/// </summary>
internal sealed class RegionWriter(int blockBytes, PackWriter packs)
{
    public const int BlocksInRegion = 32;

    private readonly byte[] _content = new byte[blockBytes * BlocksInRegion];
    private readonly List<ManifestRegion> _regions = [];
    private long _last = -1;
    private int _length;
    private uint _present;
    private uint _zero;
    private bool _short;

    public IReadOnlyList<ManifestRegion> Regions => _regions;

    /// <exception cref="ArgumentException">The block is out of order or of a wrong length.</exception>
    public async ValueTask AddAsync(MachineBlock block, CancellationToken cancellationToken)
    {
        if (block.Index <= _last || _short || block.Data.Length > blockBytes)
        {
            throw new ArgumentException($"Block {block.Index} of {block.Data.Length} bytes cannot follow block {_last}.", nameof(block));
        }

        if (block.Index / BlocksInRegion != _last / BlocksInRegion)
        {
            await FlushAsync(cancellationToken).ConfigureAwait(false);
        }

        var bit = 1u << (int)(block.Index % BlocksInRegion);
        _last = block.Index;
        _present |= bit;
        if (!block.Data.Span.ContainsAnyExcept((byte)0))
        {
            _zero |= bit;
            return;
        }

        block.Data.CopyTo(_content.AsMemory(_length));
        _length += block.Data.Length;
        _short = block.Data.Length < blockBytes;
    }

    public async ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        if (_present == 0)
        {
            return;
        }

        var chunk = _length > 0 ? await packs.AddAsync(_content.AsMemory(0, _length), cancellationToken).ConfigureAwait(false) : null;
        _regions.Add(new ManifestRegion(_last / BlocksInRegion, _present, _zero, chunk));
        (_length, _present, _zero) = (0, 0, 0);
    }
}
