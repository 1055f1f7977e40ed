using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Preview;

/// <summary>Preview tokens in requests: where they stand, and what one that is good for a request's address allows.</summary>
public static partial class PreviewAccess
{
    /// <summary>Name of the token in a query and as a cookie.</summary>
    public const string TokenName = "sandbox_token";

    /// <summary>Header that may carry it.</summary>
    public const string TokenHeader = "X-Sandbox-Token";

    private static readonly object ItemKey = new();

    /// <summary>The token of a request: query, header or cookie, in this order; <see langword="null"/>: it has none.</summary>
    public static string? TokenOf(HttpRequest request)
    {
        ArgumentNullException.ThrowIfNull(request);
        string? token = request.Query[TokenName];
        token = string.IsNullOrEmpty(token) ? request.Headers[TokenHeader] : token;
        return string.IsNullOrEmpty(token) ? request.Cookies[TokenName] : token;
    }

    /// <summary>The grant by which a request was let in, or <see langword="null"/> if it came by an API key or in development mode.</summary>
    public static PreviewGrant? GrantOf(HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        return context.Items[ItemKey] as PreviewGrant;
    }

    /// <summary>Remembers by which grant a request was let in: it is then served for the grant's generation or a later one only.</summary>
    public static void Admit(HttpContext context, PreviewGrant grant)
    {
        ArgumentNullException.ThrowIfNull(context);
        context.Items[ItemKey] = grant;
        TenantContext.Set(grant.Tenant);
    }

    /// <summary>Lets a request to <c>/v1/sessions/{id}/ports/{port}/…</c> in if it has a token for that session and port. A bad or expired one lets nobody in, and harms nobody who has a key.</summary>
    public static bool TryAdmit(HttpContext context, PreviewTokens tokens)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentNullException.ThrowIfNull(tokens);
        var match = Address().Match(context.Request.Path.Value ?? "");
        if (!match.Success || TokenOf(context.Request) is not { } token || tokens.Read(token) is not { } grant
            || grant.SessionId != match.Groups[1].Value || grant.Port.ToString(CultureInfo.InvariantCulture) != match.Groups[2].Value)
        {
            return false;
        }

        Admit(context, grant);
        return true;
    }

    [GeneratedRegex(@"\A/v1/sessions/(ses_[0-9a-z]{26})/ports/([0-9]{1,5})(/|\z)")]
    private static partial Regex Address();
}
