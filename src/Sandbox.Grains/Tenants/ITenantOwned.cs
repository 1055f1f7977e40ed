namespace Sandbox.Grains.Tenants;

/// <summary>A grain that belongs to one tenant.</summary>
internal interface ITenantOwned
{
    /// <summary>The owner, or <see langword="null"/> as long as there is none (nothing exists under this key).</summary>
    string? Tenant { get; }
}
