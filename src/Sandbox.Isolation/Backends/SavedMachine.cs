namespace Sandbox.Isolation.Backends;

/// <summary>What a saved machine is, apart from its bytes. Stored with them; a machine is restored only where all of it fits.</summary>
/// <param name="Backend">Backend that saved it.</param>
/// <param name="Fingerprint">See <see cref="GoldenSnapshot.Fingerprint"/>: only a machine with the same one may be restored from it.</param>
/// <param name="GoldenId">
/// The golden snapshot that memory and disk are differences from, or <see langword="null"/> where they are differences from nothing (zeros; an empty file).
/// </param>
/// <param name="MemoryBytes">Size of the guest's memory, or of whatever the backend saves of it; 0 where only the disk was saved.</param>
/// <param name="DiskBytes">Size of the writable disk.</param>
public sealed record MachineFacts(string Backend, string Fingerprint, string? GoldenId, long MemoryBytes, long DiskBytes);

/// <summary>A piece of memory or disk.</summary>
/// <param name="Index">Its number, counted in blocks.</param>
/// <param name="Data">Its bytes, a whole block; empty for a block of zeros.</param>
public readonly record struct MachineBlock(long Index, ReadOnlyMemory<byte> Data)
{
    /// <summary>Bytes of a block of memory: a page.</summary>
    public const int MemoryBlock = 4096;

    /// <summary>Bytes of a block of disk.</summary>
    public const int DiskBlock = 65536;
}

/// <summary>
/// Where a saved machine is read from. Blocks come in ascending order, each at most once; what is absent is as in the golden snapshot (or zero). Whoever implements this has verified
/// every byte it hands out; a fault is an exception, never a wrong byte.
/// </summary>
public interface IMachineSource
{
    /// <summary>What it is.</summary>
    MachineFacts Facts { get; }

    /// <summary>State of CPU and devices, in the backend's own format.</summary>
    Task<byte[]> ReadDevicesAsync(CancellationToken cancellationToken);

    /// <summary>What the host that saved it knew of the guest's channel, in the format of <c>GuestMemo</c>.</summary>
    Task<byte[]> ReadGuestAsync(CancellationToken cancellationToken);

    /// <summary>Pages of <see cref="MachineBlock.MemoryBlock"/> bytes. The data of one may be overwritten by the next.</summary>
    IAsyncEnumerable<MachineBlock> ReadMemoryAsync(CancellationToken cancellationToken);

    /// <summary>Blocks of <see cref="MachineBlock.DiskBlock"/> bytes. The data of one may be overwritten by the next.</summary>
    IAsyncEnumerable<MachineBlock> ReadDiskAsync(CancellationToken cancellationToken);
}

/// <summary>Where a machine is saved to. Called in the order of its members, by one caller at a time; an exception from it fails the save.</summary>
public interface IMachineSink
{
    /// <summary>What the saved state is called where it goes, as a <see cref="MachineRestore.StateName"/> will call it; <see langword="null"/> where it has no name.</summary>
    string? StateName => null;

    /// <summary>First of all.</summary>
    Task BeginAsync(MachineFacts facts, CancellationToken cancellationToken);

    /// <summary>State of CPU and devices, at most some hundred KiB.</summary>
    Task WriteDevicesAsync(ReadOnlyMemory<byte> devices, CancellationToken cancellationToken);

    /// <summary>What the host knows of the guest's channel.</summary>
    Task WriteGuestAsync(ReadOnlyMemory<byte> memo, CancellationToken cancellationToken);

    /// <summary>A page of memory, ascending; what is not given is as in the golden snapshot. The data may be overwritten once the call has returned.</summary>
    ValueTask WriteMemoryAsync(MachineBlock block, CancellationToken cancellationToken);

    /// <summary>A block of the disk, ascending, after all of the memory. The last one of a disk may be shorter.</summary>
    ValueTask WriteDiskAsync(MachineBlock block, CancellationToken cancellationToken);
}

/// <summary>How a machine goes on after it was saved.</summary>
public enum SaveMode
{
    /// <summary>It stays stopped, so that it can be removed once the snapshot is committed, or continued if it could not be.</summary>
    StayStopped = 0,

    /// <summary>It stands still only while its state is set aside, and runs on while that is written to the sink.</summary>
    Continue = 1,

    /// <summary>
    /// As <see cref="Continue"/>, and machines are about to be restored from the state on this host: a backend that can has its memory at hand for them, under the sink's <see cref="IMachineSink.StateName"/>, and the machine
    /// itself shares it with them. It may stand still a little longer for that.
    /// </summary>
    ContinueToFork = 2,
}

/// <summary>What a save did.</summary>
/// <param name="Stopped">How long the machine stood still (with <see cref="SaveMode.StayStopped"/>: until all was given to the sink).</param>
/// <param name="MemoryBytes">Memory that was saved.</param>
/// <param name="DiskBytes">Disk that was saved.</param>
public sealed record SaveReport(TimeSpan Stopped, long MemoryBytes, long DiskBytes);
