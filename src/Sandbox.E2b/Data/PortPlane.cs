using Sandbox.Abstractions;
using Sandbox.E2b.Control;
using Sandbox.Gateway.Preview;

namespace Sandbox.E2b.Data;

/// <summary>All other ports: what a program in the sandbox listens on, over HTTP and WebSocket.</summary>
internal sealed class PortPlane(SandboxTokens tokens, PortForwarder forwarder)
{
    private const string TrafficToken = "E2B-Traffic-Access-Token";
    private const string EnvdToken = "X-Access-Token";

    /// <summary>Forwards a call that may come in: with one of the sandbox's tokens, or because whoever made the sandbox opened its ports.</summary>
    public async Task HandleAsync(DataCall call, bool byHost)
    {
        var headers = call.Context.Request.Headers;
        var tenant = tokens.TenantOfTraffic(call.SessionId, headers[TrafficToken]) ?? tokens.TenantOfEnvd(call.SessionId, headers[EnvdToken]) ?? await TenantOfPublicAsync(call);
        TenantContext.Set(tenant);

        // They are this server's to read, and the program in the sandbox is not to be trusted with them.
        foreach (var name in (string[])[TrafficToken, EnvdToken, "E2b-Sandbox-Id", "E2b-Sandbox-Port", "X-API-Key"])
        {
            headers.Remove(name);
        }

        await forwarder.ForwardAsync(call.Context, call.SessionId, call.Port, dedicatedHost: byHost);
    }

    private static async Task<string> TenantOfPublicAsync(DataCall call)
    {
        // Nobody's call so far; only whether its ports are open is asked for.
        TenantContext.Set(TenantContext.System);
        SessionInfo? info = null;
        try
        {
            info = await call.Session<ISessionGrain>().GetAsync();
        }
        catch (SandboxException e) when (e.Code == SandboxErrorCode.NotFound)
        {
            // Answered like one whose ports are closed: who may not look learns nothing.
        }

        return info is not null && Labels.Get(info, Labels.Public) is not null
            ? info.Tenant
            : throw new SandboxException(SandboxErrorCode.Unauthenticated, $"A sandbox's ports need its token in the header {TrafficToken}, unless it was created with network.allowPublicTraffic.");
    }
}
