using System.Runtime.CompilerServices;
using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.Gateway.Executions;

namespace Sandbox.Server;

/// <summary>Feeds the HTTP facade's followers from the client library, which joins replay and live by sequence number.</summary>
internal sealed class ClientOutputSource(IClusterClient cluster) : IOutputSource
{
    public async IAsyncEnumerable<OutputEvent> ReadAsync(string sessionId, string executionId, long fromSeq, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var client = new SandboxClient(cluster, TenantContext.Current ?? throw new InvalidOperationException("Output is read without a tenant."));
        var execution = await client.GetSession(sessionId).GetExecutionAsync(executionId, cancellationToken);
        await foreach (var output in execution.ReadOutputAsync(fromSeq, cancellationToken))
        {
            yield return output;
        }
    }
}
