using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Sandbox.Gateway.Artifacts;
using Sandbox.Gateway.Auth;
using Sandbox.Gateway.Checkpoints;
using Sandbox.Gateway.Cluster;
using Sandbox.Gateway.Contexts;
using Sandbox.Gateway.Egress;
using Sandbox.Gateway.Executions;
using Sandbox.Gateway.Files;
using Sandbox.Gateway.Http;
using Sandbox.Gateway.Preview;
using Sandbox.Gateway.Sessions;

namespace Sandbox.Gateway;

/// <summary>Puts the HTTP facade into a web application.</summary>
public static class SandboxGateway
{
    /// <summary>Adds what the facade needs. The application also registers an <see cref="IOutputSource"/> and Orleans' <see cref="IGrainFactory"/>.</summary>
    public static IServiceCollection AddSandboxGateway(this IServiceCollection services, GatewayOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        services.AddSingleton(options);
        services.AddSingleton(new PreviewTokens(options.TokenKey, TimeProvider.System));
        services.AddHttpForwarder();
        services.AddSingleton<PortForwarder>();
        services.AddOpenApi("v1");
        return services;
    }

    /// <summary>Maps the API under <c>/v1</c>, the health checks, and the OpenAPI document at <c>/openapi/v1.json</c>.</summary>
    public static WebApplication MapSandboxGateway(this WebApplication app)
    {
        ArgumentNullException.ThrowIfNull(app);
        var options = app.Services.GetRequiredService<GatewayOptions>();
        var logger = app.Services.GetRequiredService<ILoggerFactory>().CreateLogger("Sandbox.Gateway");
        var authentication = new TenantAuthentication(app.Services.GetRequiredService<IGrainFactory>(), options, app.Services.GetRequiredService<PreviewTokens>(), TimeProvider.System);
        app.Use((context, next) => Problems.HandleAsync(context, _ => next(context), logger));
        var facades = app.Services.GetServices<IGatewayFacade>().ToList();
        facades.ForEach(f => f.UseBeforeAuthentication(app));
        app.Use((context, next) => authentication.HandleAsync(context, _ => next(context)));
        app.UseWebSockets(new WebSocketOptions { KeepAliveInterval = options.KeepAlive });
        app.Use(Problems.ForBareStatusAsync);
        app.UseRouting();

        app.MapOpenApi("/openapi/{documentName}.json");
        ClusterEndpoints.MapHealth(app);
        var api = app.MapGroup("/v1");
        api.AddEndpointFilter(Wake.Filter);
        SessionEndpoints.Map(api, options);
        CheckpointEndpoints.Map(api, options);
        ExecutionEndpoints.Map(api, options);
        ContextEndpoints.Map(api, options);
        FileEndpoints.Map(api, options);
        WatchEndpoint.Map(api, options);
        PreviewEndpoints.Map(api, options);
        ArtifactEndpoints.Map(api, options);
        KeyEndpoints.Map(api, options);
        EgressEndpoints.Map(api, options);
        SecretEndpoints.Map(api, options);
        ClusterEndpoints.Map(api);
        facades.ForEach(f => f.Map(app));
        return app;
    }
}
