namespace Sandbox.Isolation.Firecracker.Api;

// What is told to a Firecracker before its machine starts. Only the members this driver sets; what is null is not sent.

/// <summary>Kernel, initial RAM file system and kernel command line.</summary>
internal sealed record BootSource(string KernelImagePath, string InitrdPath, string BootArgs);

/// <summary>A block device.</summary>
internal sealed record Drive(string DriveId, bool IsRootDevice, bool IsReadOnly, string PathOnHost, string CacheType, string IoEngine, RateLimiter? RateLimiter);

/// <summary>Limits of a device in bytes and in operations.</summary>
internal sealed record RateLimiter(TokenBucket? Bandwidth, TokenBucket? Ops);

/// <summary>A bucket of <paramref name="Size"/> tokens that fills again in <paramref name="RefillTime"/> milliseconds.</summary>
internal sealed record TokenBucket(long Size, long RefillTime, long? OneTimeBurst);

/// <summary>Sizes of the machine.</summary>
internal sealed record MachineConfiguration(int VcpuCount, int MemSizeMib, bool Smt, bool TrackDirtyPages);

/// <summary>The socket device; its host end is the unix socket <paramref name="UdsPath"/>.</summary>
internal sealed record Vsock(long GuestCid, string UdsPath);

/// <summary>A source of randomness for the guest.</summary>
internal sealed record EntropyDevice(RateLimiter? RateLimiter);
