using Orleans.Placement;
using Sandbox.Abstractions;
using Sandbox.Grains.Hosts.Executions;
using Sandbox.Grains.Hosts.Placement;
using Sandbox.Grains.Hosts.Runtime;
using Sandbox.Grains.Tenants;

namespace Sandbox.Grains.Output;

/// <summary>Reads one log. Key: <c>host/session/execution</c>.</summary>
[HostPinned, Immovable]
internal sealed class OutputGrain(HostRuntime runtime) : Grain, IOutputGrain, ITenantOwned
{
    private string _session = "";
    private string _execution = "";

    public string? Tenant => runtime.TenantOf(_session);

    public override Task OnActivateAsync(CancellationToken cancellationToken)
    {
        if (this.GetPrimaryKeyString().Split('/') is [_, var session, var execution] && SandboxIds.IsSession(session) && SandboxIds.IsExecution(execution))
        {
            (_session, _execution) = (session, execution);
        }

        return Task.CompletedTask;
    }

    public async Task<OutputPage> ReadAsync(long fromSeq, TimeSpan wait)
    {
        if (fromSeq < 1)
        {
            throw SandboxException.Invalid("from", $"Events are numbered from 1; {fromSeq} is no such number.");
        }

        var log = _execution.Length > 0 ? runtime.Logs.Find(_session, _execution) : null;
        if (log is null)
        {
            throw SandboxException.NotFound($"There is no output of execution '{_execution}' here: it never was, or its retention has passed.");
        }

        if (!log.IsComplete && !runtime.IsPumped(_execution) && !runtime.IsSuspended(_execution))
        {
            // The process that wrote this log is gone, and only it could have gone on: say so instead of letting readers wait for ever.
            runtime.Seal(_session, _execution, ExitTranslator.Lost("its host was restarted while it ran", new ExecutionFacts(), TimeSpan.Zero));
        }

        var patience = wait < TimeSpan.Zero ? TimeSpan.Zero : wait > IOutputGrain.MaxWait ? IOutputGrain.MaxWait : wait;
        var page = await log.ReadAsync(fromSeq, IOutputGrain.MaxPageBytes, patience, CancellationToken.None);
        return runtime.IsSuspended(_execution) && !page.Complete ? page with { Suspended = true } : page;
    }
}
