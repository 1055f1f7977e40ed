using Sandbox.Abstractions;

namespace Sandbox.Grains.Tenants;

/// <summary>
/// The last word on who may call what, at the grain itself. What belongs to a tenant answers only that tenant (and the system); others are told that it
/// does not exist. What silos use among themselves answers no client.
/// </summary>
internal sealed class TenantCallFilter : IIncomingGrainCallFilter
{
    public Task Invoke(IIncomingGrainCallContext context)
    {
        if (context.InterfaceMethod?.DeclaringType is { } contract && contract.Assembly == typeof(TenantContext).Assembly)
        {
            Check(context, contract);
        }

        return context.Invoke();
    }

    private static void Check(IIncomingGrainCallContext context, Type contract)
    {
        var tenant = TenantContext.Current;
        var isClient = IsExternalClient(context.SourceId);
        if (tenant == TenantContext.System)
        {
            if (isClient)
            {
                throw Denied("The system's own name is not for clients.");
            }

            return;
        }

        if (contract == typeof(IMicroVmGrain) || IsHostControl(contract, context.InterfaceMethod.Name) || IsMaterial(contract, context.InterfaceMethod.Name) || context.InterfaceMethod.Name is "ReportAsync" or "OnMicroVmEndedAsync" or "OnExecutionEndedAsync")
        {
            // Session grains call these on behalf of a tenant; nobody else has business here.
            if (context.SourceId is not { } source || GrainTypePrefix.IsClient(in source) || source.IsSystemTarget())
            {
                throw Denied($"{contract.Name} is for silos among themselves.");
            }

            return;
        }

        if (contract == typeof(ITenantGrain))
        {
            // Verifying a key comes before anybody knows the tenant.
            if (context.InterfaceMethod.Name != nameof(ITenantGrain.VerifyKeyAsync))
            {
                Require(tenant, context.TargetId.Key.ToString());
            }
        }
        else if (contract == typeof(ITenantEgressGrain))
        {
            Require(tenant, context.TargetId.Key.ToString());
        }
        else if (contract == typeof(ISessionIndexGrain))
        {
            Require(tenant, context.TargetId.Key.ToString()!.Split('/')[0]);
        }
        else if (context.Grain is ITenantOwned owned)
        {
            RequireSome(tenant);
            if (owned.Tenant is { } owner && owner != tenant)
            {
                throw SandboxException.NotFound($"There is no '{context.TargetId.Key}'.");
            }
        }
    }

    private static bool IsMaterial(Type contract, string method) => contract == typeof(ITenantEgressGrain) && method == nameof(ITenantEgressGrain.GetMaterialAsync);

    private static bool IsHostControl(Type contract, string method) =>
        contract == typeof(IHostGrain) && method != nameof(IHostGrain.GetAsync);

    /// <summary>A client outside the silos. A silo's own client (the HTTP facade in one process with it, the host runtime) is the silo.</summary>
    private static bool IsExternalClient(GrainId? source) =>
        source is { } id && GrainTypePrefix.IsClient(in id) && !id.Key.ToString()!.StartsWith("hosted-", StringComparison.Ordinal);

    private static void Require(string? tenant, string? owner)
    {
        RequireSome(tenant);
        if (tenant != owner)
        {
            throw SandboxException.NotFound("There is no such thing for this tenant.");
        }
    }

    private static void RequireSome(string? tenant)
    {
        if (string.IsNullOrEmpty(tenant))
        {
            throw new SandboxException(SandboxErrorCode.Unauthenticated, "The call names no tenant. Set TenantContext before calling.");
        }
    }

    private static SandboxException Denied(string message) => new(SandboxErrorCode.PermissionDenied, message);
}
