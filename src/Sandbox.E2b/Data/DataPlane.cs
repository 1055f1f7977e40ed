using System.Globalization;
using System.Text;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.E2b.Envd;
using Sandbox.E2b.Interpreter;

namespace Sandbox.E2b.Data;

/// <summary>Requests to a port of a sandbox, named by the headers <c>E2b-Sandbox-Id</c> and <c>E2b-Sandbox-Port</c> or by the host name <c>{port}-{id}.domain</c>.</summary>
internal sealed class DataPlane(IGrainFactory grains, E2bOptions options, SandboxTokens tokens, EnvdPlane envd, InterpreterPlane interpreter, PortPlane ports)
{
    /// <summary>Files and processes.</summary>
    public const int EnvdPort = 49983;

    /// <summary>Code in contexts.</summary>
    public const int InterpreterPort = 49999;

    /// <summary>Serves a request that is meant for a sandbox; says whether it was.</summary>
    public async Task<bool> TryHandleAsync(HttpContext context)
    {
        if (Target(context) is not { } target)
        {
            return false;
        }

        context.Features.Set<Gateway.IErrorFormat>(E2bErrors.Rest);
        var session = E2bIds.ToSession(target.Sandbox) ?? throw SandboxException.NotFound($"There is no sandbox '{Clip(target.Sandbox)}'.");
        var call = new DataCall(context, grains, session, target.Port) { User = UserOf(context) };
        await (target.Port switch
        {
            EnvdPort => EnvdAsync(call),
            InterpreterPort => CodeAsync(call),
            _ => ports.HandleAsync(call, target.ByHost),
        });
        return true;
    }

    private async Task EnvdAsync(DataCall call)
    {
        // Addresses of files can be signed instead: those carry no token, and the handler checks the signature.
        var request = call.Context.Request;
        if (request.Path == "/files" && request.Query.ContainsKey("signature"))
        {
            TenantContext.Set(await SignedUrl.TenantAsync(call, tokens));
        }
        else
        {
            TenantContext.Set(tokens.TenantOfEnvd(call.SessionId, request.Headers["X-Access-Token"]) ?? throw Refused("X-Access-Token"));
        }

        await envd.HandleAsync(call);
    }

    private async Task CodeAsync(DataCall call)
    {
        var headers = call.Context.Request.Headers;
        TenantContext.Set(tokens.TenantOfTraffic(call.SessionId, headers["E2B-Traffic-Access-Token"]) ?? tokens.TenantOfEnvd(call.SessionId, headers["X-Access-Token"])
            ?? throw Refused("E2B-Traffic-Access-Token"));
        await interpreter.HandleAsync(call);
    }

    private static SandboxException Refused(string header) =>
        new(SandboxErrorCode.Unauthenticated, $"The header {header} is missing, or its token is not this sandbox's. Connect to the sandbox to get it.");

    private (string Sandbox, int Port, bool ByHost)? Target(HttpContext context)
    {
        var headers = context.Request.Headers;
        if (headers.TryGetValue("E2b-Sandbox-Id", out var id))
        {
            string? text = headers["E2b-Sandbox-Port"];
            return (id.ToString(), string.IsNullOrEmpty(text) ? EnvdPort : PortOf(text) ?? throw SandboxException.Invalid("E2b-Sandbox-Port", "A port is a number from 1 to 65535."), false);
        }

        var host = context.Request.Host.Host;
        if (options.Domain.Length > 0 && host.Length > options.Domain.Length + 1 && host.EndsWith("." + options.Domain, StringComparison.OrdinalIgnoreCase))
        {
            var name = host[..^(options.Domain.Length + 1)].ToLowerInvariant();
            if (name.IndexOf('-', StringComparison.Ordinal) is > 0 and var dash && PortOf(name[..dash]) is { } port)
            {
                return (name[(dash + 1)..], port, true);
            }
        }

        return null;
    }

    private static int? PortOf(string text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var port) && port is > 0 and < 65536 ? port : null;

    private static string? UserOf(HttpContext context)
    {
        string? user = context.Request.Query["username"];
        if (string.IsNullOrEmpty(user) && context.Request.Headers.Authorization.ToString() is var header && header.StartsWith("Basic ", StringComparison.OrdinalIgnoreCase))
        {
            try
            {
                user = Encoding.UTF8.GetString(Convert.FromBase64String(header["Basic ".Length..].Trim())).Split(':')[0];
            }
            catch (FormatException)
            {
                throw SandboxException.Invalid("Authorization", "Basic authorization is base64 of 'user:'.");
            }
        }

        return string.IsNullOrEmpty(user) ? null : user;
    }

    private static string Clip(string text) => text.Length <= 64 ? text : text[..64] + "…";
}
