using Orleans.Placement;
using Orleans.Runtime.MembershipService.SiloMetadata;
using Orleans.Runtime.Placement;
using Sandbox.Abstractions;

namespace Sandbox.Grains.Hosts.Placement;

/// <summary>The grain lives on the silo of the host that its key names first (<c>host</c>, <c>host/…</c>), and nowhere else.</summary>
[Serializable, GenerateSerializer, Immutable, Alias("sandbox.host-pinned")]
internal sealed class HostPinnedPlacement : PlacementStrategy
{
    /// <summary>Key of the host id in a silo's metadata.</summary>
    public const string MetadataKey = "sandbox.host";

    public static readonly HostPinnedPlacement Instance = new();

    /// <summary>The host that a grain key names.</summary>
    public static string HostOf(string key)
    {
        var slash = key.IndexOf('/', StringComparison.Ordinal);
        return slash < 0 ? key : key[..slash];
    }

    /// <summary>What of the host a grain key names: a microVM, a template.</summary>
    public static string NameOf(string key) => key[(key.IndexOf('/', StringComparison.Ordinal) + 1)..];
}

/// <summary>Marks a grain class as pinned to the host in its key.</summary>
[AttributeUsage(AttributeTargets.Class)]
internal sealed class HostPinnedAttribute : PlacementAttribute
{
    public HostPinnedAttribute()
        : base(HostPinnedPlacement.Instance)
    {
    }
}

/// <summary>Finds the silo of a host by its metadata. An unknown host is an error at once, never another silo.</summary>
internal sealed class HostPinnedPlacementDirector(ISiloMetadataCache metadata) : IPlacementDirector
{
    public Task<SiloAddress> OnAddActivation(PlacementStrategy strategy, PlacementTarget target, IPlacementContext context)
    {
        var host = HostPinnedPlacement.HostOf(target.GrainIdentity.Key.ToString()!);
        SiloAddress? found = null;
        foreach (var silo in context.GetCompatibleSilos(target))
        {
            // A host that restarted may still be listed under its old address: the newest incarnation is the living one.
            if (metadata.GetSiloMetadata(silo).Metadata.TryGetValue(HostPinnedPlacement.MetadataKey, out var name)
                && name == host
                && (found is null || silo.Generation > found.Generation))
            {
                found = silo;
            }
        }

        return found is null
            ? Task.FromException<SiloAddress>(SandboxException.Unavailable($"Host '{host}' is not in the cluster now."))
            : Task.FromResult(found);
    }
}
