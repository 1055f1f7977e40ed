using Sandbox.Isolation.Firecracker.Api;

namespace Sandbox.Isolation.Firecracker.Machine;

/// <summary>Turns limits by the second into Firecracker's buckets.</summary>
internal static class DriveLimiter
{
    private const long Second = 1000;

    public static RateLimiter? Of(DriveLimits? limits) => limits is null or { BytesPerSecond: null, OperationsPerSecond: null }
        ? null
        : new RateLimiter(
            limits.BytesPerSecond is { } bytes ? new TokenBucket(bytes, Second, limits.BurstBytes) : null,
            limits.OperationsPerSecond is { } operations ? new TokenBucket(operations, Second, null) : null);
}
