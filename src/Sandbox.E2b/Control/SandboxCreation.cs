using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.Gateway;

namespace Sandbox.E2b.Control;

/// <summary>Making a sandbox, of a template or of a snapshot.</summary>
internal sealed class SandboxCreation(IGrainFactory grains, Sandboxes sandboxes, Snapshots snapshots, SandboxTokens tokens, E2bOptions options, GatewayOptions gateway)
{
    /// <summary>What a caller who names no time gets: what E2B's SDKs promise.</summary>
    public static readonly TimeSpan DefaultTimeout = TimeSpan.FromMinutes(5);

    public async Task<IResult> CreateAsync(HttpContext context)
    {
        var body = await ControlJson.ReadAsync<CreateBody>(context, gateway);
        body.RefuseWhatIsNotThere();
        if (string.IsNullOrEmpty(body.Template))
        {
            throw SandboxException.Invalid("templateID", "'templateID' is required.");
        }

        var egress = NetworkRules.From(body.Network, body.AllowInternetAccess);
        var metadata = Labels.Checked(body.Metadata);
        metadata[Labels.Template] = body.Template;
        if (body.Network?.AllowPublicTraffic == true)
        {
            metadata[Labels.Public] = "true";
        }

        var request = new CreateSessionRequest
        {
            RunLimit = Limit(body.Timeout) ?? DefaultTimeout,
            IdleAction = body.AutoPause == true ? IdleAction.Pause : IdleAction.Terminate,
            WakeOnCall = body.AutoResume?.Enabled ?? false,
            Metadata = metadata,
            Egress = egress,
            Needs = egress is null || egress.ReachesNothing() ? SessionNeeds.Nothing : new SessionNeeds { Network = true },
        };
        var (template, from) = await FindAsync(body.Template);
        request = from is not null ? request with { From = from } : request with { Template = template!, Env = body.EnvVars ?? [] };
        CreateBody.Refuse(from is not null && body.EnvVars is { Count: > 0 }, "envVars", "a sandbox of a snapshot has the environment that the snapshot was taken with");
        var info = await grains.GetGrain<ISessionGrain>(SandboxIds.NewSession()).CreateAsync(request, null);
        info = await sandboxes.UntilRunningAsync(info, context.RequestAborted);
        return ControlJson.Answer(SandboxModel.From(info, tokens, options), StatusCodes.Status201Created);
    }

    /// <summary>Seconds as a run limit. Nobody can be given no time at all: that is a second.</summary>
    public static TimeSpan? Limit(int? seconds) => seconds switch
    {
        null => null,
        < 0 => throw SandboxException.Invalid("timeout", "'timeout' is a number of seconds, 0 or more."),
        _ => TimeSpan.FromSeconds(Math.Max(1, seconds.Value)),
    };

    private async Task<(string? Template, CheckpointReference? From)> FindAsync(string name)
    {
        if (options.Templates.TryGetValue(name, out var alias))
        {
            return (alias, null);
        }

        if (await snapshots.FindAsync(name) is { } snapshot)
        {
            return (null, await snapshots.ReferenceAsync(snapshot));
        }

        try
        {
            return ((await grains.GetGrain<ITemplateGrain>(name).GetAsync()).Id, null);
        }
        catch (SandboxException e) when (e.Code is SandboxErrorCode.NotFound or SandboxErrorCode.InvalidArgument)
        {
            throw SandboxException.NotFound($"There is no template or snapshot '{name}'. Known by E2B's names are {string.Join(", ", options.Templates.Keys)}.");
        }
    }
}
