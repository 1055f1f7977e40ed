using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Sandbox.E2b.Control;
using Sandbox.E2b.Data;
using Sandbox.E2b.Envd;
using Sandbox.E2b.Interpreter;
using Sandbox.Gateway;

namespace Sandbox.E2b;

/// <summary>E2B's API on the same address as <c>/v1</c>, translated onto the same actors.</summary>
internal sealed class E2bFacade(DataPlane data, ControlPlane control) : IGatewayFacade
{
    /// <inheritdoc/>
    public void UseBeforeAuthentication(IApplicationBuilder app) => app.Use(async (context, next) =>
    {
        if (ControlPlane.Owns(context.Request.Path))
        {
            context.Features.Set<IErrorFormat>(E2bErrors.Rest);
        }

        if (!await data.TryHandleAsync(context))
        {
            await next(context);
        }
    });

    /// <inheritdoc/>
    public void Map(IEndpointRouteBuilder endpoints) => control.Map(endpoints);
}

/// <summary>Puts the facade into a gateway.</summary>
public static class E2bFacadeExtensions
{
    /// <summary>Adds the facade. The gateway's own services must be there, <see cref="GatewayOptions"/> among them.</summary>
    public static IServiceCollection AddE2bFacade(this IServiceCollection services, E2bOptions options)
    {
        services.AddSingleton(options);
        services.AddSingleton(s => new SandboxTokens(s.GetRequiredService<GatewayOptions>().TokenKey));
        services.AddSingleton<EnvdPlane>();
        services.AddSingleton<Envd.Process.ProcessService>();
        services.AddSingleton<Envd.Filesystem.FilesystemService>();
        services.AddSingleton<Envd.Files.FilesService>();
        services.AddSingleton<InterpreterPlane>();
        services.AddSingleton<CodeRunner>();
        services.AddSingleton<PortPlane>();
        services.AddSingleton<DataPlane>();
        services.AddSingleton<Sandboxes>();
        services.AddSingleton<Snapshots>();
        services.AddSingleton<SandboxCreation>();
        services.AddSingleton<SandboxVerbs>();
        services.AddSingleton<ControlPlane>();
        services.AddSingleton<IGatewayFacade, E2bFacade>();
        return services;
    }
}
