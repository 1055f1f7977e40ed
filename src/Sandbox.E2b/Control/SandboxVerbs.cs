using System.Globalization;
using Microsoft.AspNetCore.Http;
using Sandbox.Abstractions;
using Sandbox.E2b.Data;
using Sandbox.Gateway;
using Sandbox.Gateway.Http;

namespace Sandbox.E2b.Control;

/// <summary>What can be done to a sandbox that is there.</summary>
internal sealed class SandboxVerbs(IGrainFactory grains, Sandboxes sandboxes, SandboxTokens tokens, E2bOptions options, GatewayOptions gateway)
{
    private static readonly TimeSpan CpuSample = TimeSpan.FromMilliseconds(200);

    public async Task<IResult> GetAsync(string id)
    {
        var info = await sandboxes.FindAsync(id);
        return ControlJson.Answer(SandboxDetail.From(info, options) with { EnvdAccessToken = tokens.Envd(info.Id, info.Tenant) });
    }

    public async Task<IResult> KillAsync(string id)
    {
        await Session(await sandboxes.FindAsync(id)).TerminateAsync(null);
        return Results.NoContent();
    }

    public async Task<IResult> SetTimeoutAsync(string id, HttpContext context)
    {
        var body = await ControlJson.ReadAsync<TimeoutBody>(context, gateway);
        var limit = SandboxCreation.Limit(body.Timeout) ?? throw SandboxException.Invalid("timeout", "'timeout' is required: a number of seconds.");
        await Session(await sandboxes.FindAsync(id)).SetRunLimitAsync(limit, onlyLater: false);
        return Results.NoContent();
    }

    public async Task<IResult> RefreshAsync(string id, HttpContext context)
    {
        var body = await ControlJson.ReadAsync<TimeoutBody>(context, gateway);
        await Session(await sandboxes.FindAsync(id)).SetRunLimitAsync(SandboxCreation.Limit(body.Duration) ?? SandboxCreation.DefaultTimeout, onlyLater: true);
        return Results.NoContent();
    }

    public async Task<IResult> PauseAsync(string id, HttpContext context)
    {
        var body = await ControlJson.ReadAsync<PauseBody>(context, gateway);
        CreateBody.Refuse(body.Memory == false, "memory", "a pause here always keeps memory; leave keepMemory out");
        var info = await sandboxes.FindAsync(id);
        if (info.State is SessionState.Paused or SessionState.Pausing)
        {
            throw SandboxException.Conflict($"Sandbox '{id}' is paused already.");
        }

        info = await sandboxes.SettleAsync(await grains.GetGrain<ISessionCheckpoints>(info.Id).PauseAsync(null), context.RequestAborted);
        return info.State == SessionState.Paused ? Results.NoContent() : throw SandboxException.Unavailable($"The sandbox was not paused: {info.Cause}");
    }

    /// <summary>Older SDKs resume with this: a sandbox that runs is a conflict.</summary>
    public async Task<IResult> ResumeAsync(string id, HttpContext context)
    {
        var body = await ControlJson.ReadAsync<TimeoutBody>(context, gateway);
        var info = await sandboxes.FindAsync(id);
        if (info.State != SessionState.Paused)
        {
            throw SandboxException.Conflict($"Sandbox '{id}' is not paused.");
        }

        return await WakeAsync(info, SandboxCreation.Limit(body.Timeout) ?? SandboxCreation.DefaultTimeout, context);
    }

    public async Task<IResult> ConnectAsync(string id, HttpContext context)
    {
        var body = await ControlJson.ReadAsync<TimeoutBody>(context, gateway);
        CreateBody.Refuse(body.Memory == false, "memory", "a sandbox here is resumed with its memory; leave onResume out");
        var limit = SandboxCreation.Limit(body.Timeout) ?? SandboxCreation.DefaultTimeout;
        var info = await sandboxes.SettleAsync(await sandboxes.FindAsync(id), context.RequestAborted);
        if (info.State == SessionState.Paused)
        {
            return await WakeAsync(info, limit, context);
        }

        info = await Session(await sandboxes.FindAsync(id)).SetRunLimitAsync(limit, onlyLater: true);
        return ControlJson.Answer(SandboxModel.From(info, tokens, options));
    }

    public async Task<IResult> ForkAsync(string id, HttpContext context)
    {
        var body = await ControlJson.ReadAsync<ForkBody>(context, gateway);
        var limit = SandboxCreation.Limit(body.Timeout) ?? SandboxCreation.DefaultTimeout;
        var info = await sandboxes.FindAsync(id);
        var forks = await grains.GetGrain<ISessionCheckpoints>(info.Id).ForkAsync(body.Count ?? 1, null);
        return ControlJson.Answer(await Task.WhenAll(forks.Select(f => SettleForkAsync(f, limit, context.RequestAborted))), StatusCodes.Status201Created);
    }

    /// <summary>What it uses now: nothing is recorded. Of a paused one there is nothing to say, and it is not woken for it.</summary>
    public async Task<IResult> MetricsAsync(string id, HttpContext context)
    {
        var info = await sandboxes.FindAsync(id);
        var now = DateTimeOffset.UtcNow;
        if (info.State != SessionState.Running || now < Time(context, "start") || now > Time(context, "end")?.AddSeconds(1))
        {
            return ControlJson.Answer(Array.Empty<MetricModel>());
        }

        WakeContext.Set(false);
        var first = await Session(info).GetMetricsAsync();
        await Task.Delay(CpuSample, context.RequestAborted);
        var m = await Session(info).GetMetricsAsync();
        var passed = (m.Uptime - first.Uptime) * Math.Max(1, m.Vcpus);
        var used = passed > TimeSpan.Zero ? 100 * (m.CpuBusy - first.CpuBusy) / passed : 0;
        MetricModel model = new(now, now.ToUnixTimeSeconds(), m.Vcpus, Math.Round(Math.Clamp(used, 0, 100), 2), m.MemoryTotal - m.MemoryAvailable, m.MemoryTotal, 0, m.DiskTotal - m.DiskFree, m.DiskTotal);
        return ControlJson.Answer(new[] { model });
    }

    public async Task<IResult> NetworkAsync(string id, HttpContext context)
    {
        var body = await ControlJson.ReadAsync<NetworkBody>(context, gateway);
        var info = await sandboxes.FindAsync(id);

        // Leaving all of it out clears the rules: then its tenant's default holds, as for a sandbox that is made without any.
        var policy = NetworkRules.From(body, null) ?? await grains.GetGrain<ITenantEgressGrain>(TenantContext.Current!).GetDefaultAsync();
        await grains.GetGrain<ISessionEgress>(info.Id).SetEgressAsync(policy, null);
        return Results.NoContent();
    }

    private async Task<IResult> WakeAsync(SessionInfo info, TimeSpan limit, HttpContext context)
    {
        // Before it runs, so that it never runs with too little time.
        await Session(info).SetRunLimitAsync(limit, onlyLater: false);
        info = await sandboxes.UntilRunningAsync(await grains.GetGrain<ISessionCheckpoints>(info.Id).ResumeAsync(null), context.RequestAborted);
        return ControlJson.Answer(SandboxModel.From(info, tokens, options), StatusCodes.Status201Created);
    }

    private async Task<ForkModel> SettleForkAsync(SessionInfo fork, TimeSpan limit, CancellationToken cancellationToken)
    {
        try
        {
            await Session(fork).SetRunLimitAsync(limit, onlyLater: false);
            return new ForkModel(SandboxModel.From(await sandboxes.UntilRunningAsync(fork, cancellationToken), tokens, options), null);
        }
        catch (SandboxException e)
        {
            return new ForkModel(null, new ForkError(Problems.StatusOf(e.Code), e.Message));
        }
    }

    private ISessionGrain Session(SessionInfo info) => grains.GetGrain<ISessionGrain>(info.Id);

    private static DateTimeOffset? Time(HttpContext context, string name)
    {
        string? text = context.Request.Query[name];
        return string.IsNullOrEmpty(text) ? null
            : long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds) && seconds < 253402300799 ? DateTimeOffset.FromUnixTimeSeconds(seconds)
            : throw SandboxException.Invalid(name, $"'{name}' is a number of seconds since 1970.");
    }
}
