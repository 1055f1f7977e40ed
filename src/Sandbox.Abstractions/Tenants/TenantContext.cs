namespace Sandbox.Abstractions;

/// <summary>
/// For whom a call is made. Set by the edge that authenticated the caller (the HTTP facade, a trusted Orleans client) and carried by Orleans with the call;
/// an incoming-call filter on the silo refuses calls to tenant-owned grains without it.
/// </summary>
public static class TenantContext
{
    /// <summary>Key in <see cref="RequestContext"/>.</summary>
    public const string Key = "sandbox.tenant";

    /// <summary>Tenant of the single-user development mode.</summary>
    public const string Development = "dev";

    /// <summary>What silos use among themselves (host to session); never given to a caller.</summary>
    public const string System = "@system";

    /// <summary>The tenant of the current call, or <see langword="null"/>.</summary>
    public static string? Current => RequestContext.Get(Key) as string;

    /// <summary>Makes calls from here on for a tenant.</summary>
    public static void Set(string tenant) => RequestContext.Set(Key, tenant);
}
