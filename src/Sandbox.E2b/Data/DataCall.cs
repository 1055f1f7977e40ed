using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;

namespace Sandbox.E2b.Data;

/// <summary>
/// A request to a port of a sandbox, authenticated: <see cref="TenantContext"/> and <see cref="WakeContext"/> are set. Whether a paused session may be woken is the session's own choice (E2B's <c>autoResume</c>).
/// </summary>
/// <param name="Context">The request.</param>
/// <param name="Grains">The way to the actors.</param>
/// <param name="SessionId">The session.</param>
/// <param name="Port">The port that was addressed.</param>
internal sealed record DataCall(HttpContext Context, IGrainFactory Grains, string SessionId, int Port)
{
    /// <summary>The user inside the guest: <c>Authorization: Basic base64("user:")</c>, or <c>?username=</c>; <see langword="null"/>: the template's default.</summary>
    public string? User { get; init; }

    /// <summary>A grain of the session.</summary>
    public T Session<T>()
        where T : IGrainWithStringKey => Grains.GetGrain<T>(SessionId);
}
