using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;

namespace Sandbox.Gateway.Http;

/// <summary>
/// The caller's choice whether a call that needs the machine may resume a paused session: <c>?wake=</c>, or the header <c>Sandbox-Wake</c> where an address cannot be changed. The query wins.
/// </summary>
internal static class Wake
{
    public const string Header = "Sandbox-Wake";
    private const string Parameter = "wake";

    /// <summary>Carries the choice to the grains that this request calls.</summary>
    public static async ValueTask<object?> Filter(EndpointFilterInvocationContext context, EndpointFilterDelegate next)
    {
        var request = context.HttpContext.Request;
        var byHeader = Read(Header, request.Headers.TryGetValue(Header, out var header), header);
        if ((Read(Parameter, request.Query.TryGetValue(Parameter, out var query), query) ?? byHeader) is { } choice)
        {
            WakeContext.Set(choice);
        }

        return await next(context);
    }

    private static bool? Read(string name, bool isThere, string? text) => !isThere ? null : text switch
    {
        "true" => true,
        "false" => false,
        _ => throw SandboxException.Invalid(name, $"'{name}' must be true or false."),
    };
}
