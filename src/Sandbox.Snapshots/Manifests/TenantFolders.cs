using System.Security.Cryptography;
using System.Text;

namespace Sandbox.Snapshots.Manifests;

/// <summary>Where in the blob store a tenant's things are. Its name is hashed: it may hold anything, and need not be known to who sees the store.</summary>
internal sealed class TenantFolders(string tenant)
{
    private readonly string _folder = NameOf(tenant);

    /// <summary>The folder of a tenant.</summary>
    public static string NameOf(string tenant) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(tenant)).AsSpan(0, 16));

    public string Packs => $"{_folder}/packs";

    public string Manifests => $"{_folder}/snapshots";

    public string Intents => $"{_folder}/intents";

    public string Manifest(string snapshotId) => $"{Manifests}/{snapshotId}";

    public string Intent(string snapshotId) => $"{Intents}/{snapshotId}";
}
