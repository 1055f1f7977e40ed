#pragma warning disable CA1822
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Sandbox.E2b.Control;

/// <summary>The REST calls that make and end sandboxes.</summary>
internal sealed class ControlPlane
{
    /// <summary>Whether a path is one of these calls, so that its errors are written as E2B's are.</summary>
    public static bool Owns(PathString path) =>
        path.StartsWithSegments("/sandboxes") || path.StartsWithSegments("/v2") || path.StartsWithSegments("/v3") || path.StartsWithSegments("/snapshots") || path.StartsWithSegments("/templates")
        || path.StartsWithSegments("/volumes") || path.StartsWithSegments("/secrets") || path.StartsWithSegments("/teams");

    /// <summary>Maps them.</summary>
    public void Map(IEndpointRouteBuilder endpoints)
    {
    }
}
