using System.Text.RegularExpressions;

namespace Sandbox.Grains.Tenants;

/// <summary>The form of a tenant id: <c>[a-z][a-z0-9-]{0,39}</c>.</summary>
internal static partial class TenantNames
{
    public static bool IsTenant(string? name) => name is not null && Form().IsMatch(name);

    [GeneratedRegex(@"\A[a-z][a-z0-9-]{0,39}\z")]
    private static partial Regex Form();
}
